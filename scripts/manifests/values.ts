import { type Literal, merged, noted, type Tree, tree } from './tree.ts';

/** What of an installation may differ: values.yaml of the chart. */
export const defaults: Tree = tree({
  image: noted('Made by deploy/Dockerfile; both processes and the CNI plugin are in it.', 'margay:0.1.0'),
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: noted('As a Pod has them: [{name: …}].', []),
  config: noted('What all containers of the agent have in common: environment variables with the names of Calico.', {
    DATASTORE_TYPE: noted('kubernetes or etcdv3; with etcdv3, ETCD_ENDPOINTS is needed too.', 'kubernetes'),
    CALICO_NETWORKING_BACKEND: noted(
      'bird: routes by BGP, and by tunnels where pools say so; vxlan, none: without BGP.',
      'bird',
    ),
    IP: 'autodetect',
    IP_AUTODETECTION_METHOD: 'first-found',
    CALICO_IPV4POOL_CIDR: noted('The range of the pods, which kubeadm calls podSubnet.', '192.168.0.0/16'),
    CALICO_IPV4POOL_VXLAN: 'Never',
    USE_POD_CIDR: noted("true: addresses of pods come from their Node's podCIDRs, and not of pools.", 'false'),
    FELIX_HEALTHENABLED: 'true',
    FELIX_IPV6SUPPORT: 'false',
  }),
  calicoGroups: noted(
    "The groups of Calico's kinds that the roles are about: the second has them as native definitions. One is enough.",
    ['crd.projectcalico.org', 'projectcalico.org'],
  ),
  etcd: {
    secret: noted(
      'A Secret with etcd-ca, etcd-cert and etcd-key, mounted at /etc/margay/etcd. Then config needs\nETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE with their paths.',
      '',
    ),
  },
  bgp: {
    secret: noted('The Secret that passwords of BGPPeers refer to.', ''),
    resources: { requests: { cpu: '50m', memory: '96Mi' } },
  },
  felix: {
    securityContext: {
      readOnlyRootFilesystem: true,
      capabilities: {
        drop: ['ALL'],
        add: noted(
          "NET_ADMIN: routes, devices, rules; NET_RAW: iptables and ipset; SYS_ADMIN: to enter pods' namespaces.",
          ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN'],
        ),
      },
      seccompProfile: { type: 'RuntimeDefault' },
      seLinuxOptions: noted('Where SELinux is: what containers are confined to has no way to the network.', {
        level: 's0',
        type: 'spc_t',
      }),
    },
    resources: { requests: { cpu: '100m', memory: '128Mi' } },
  },
  controllers: {
    replicas: noted('One acts, and another takes over when it ends.', 2),
    resources: { requests: { cpu: '50m', memory: '96Mi' } },
  },
  cni: { binDir: '/opt/cni/bin', confDir: '/etc/cni/net.d' },
  nodeSelector: { 'kubernetes.io/os': 'linux' },
  tolerations: [
    { operator: 'Exists', effect: 'NoSchedule' },
    { operator: 'Exists', effect: 'NoExecute' },
    { operator: 'Exists', key: 'CriticalAddonsOnly' },
  ],
});

const etcdDirectory = '/etc/margay/etcd';

interface Variant {
  /** Its comment, first line first. */
  readonly about: string;
  readonly values: Literal;
}

const before = `Before that: build the image (deploy/Dockerfile) and bring it to the nodes or to a registry, put its name in place of
margay:0.1.0, and set CALICO_IPV4POOL_CIDR to the range of the pods, which kubeadm calls podSubnet.`;

/** The plain manifests: file in deploy/ → how it differs from the chart's defaults. */
export const variants: Readonly<Record<string, Variant>> = {
  'margay.yaml': {
    about: `Margay on every node of a cluster, with the Kubernetes API as its datastore.

  kubectl apply -f deploy/crds -f deploy/margay.yaml

${before}`,
    values: {},
  },
  'margay-vxlan.yaml': {
    about: `Margay with VXLAN between the nodes and without BGP, with the Kubernetes API as its datastore.

  kubectl apply -f deploy/crds -f deploy/margay-vxlan.yaml

${before}
Nodes must reach each other at UDP port 4789.`,
    values: { config: { CALICO_NETWORKING_BACKEND: 'vxlan', CALICO_IPV4POOL_VXLAN: 'Always' } },
  },
  'margay-policy-only.yaml': {
    about: `Margay's policy on the network of flannel, with the Kubernetes API as its datastore: pods get their devices and
addresses (of their Node's podCIDR) from Margay, flannel carries packets between nodes.

  kubectl apply -f deploy/crds -f deploy/margay-policy-only.yaml

Before that: flannel runs, and Nodes have podCIDRs; build the image (deploy/Dockerfile) and bring it to the nodes or to a
registry, put its name in place of margay:0.1.0, and set CNI_MTU to flannel's (FLANNEL_MTU of /run/flannel/subnet.env).

Margay's network configuration comes before flannel's by its name, for pods that start from then on. Those that run keep
their addresses on flannel's bridge, without policy, until they are started again.`,
    values: {
      config: {
        CALICO_NETWORKING_BACKEND: 'none',
        NO_DEFAULT_POOLS: 'true',
        USE_POD_CIDR: 'true',
        CNI_CONF_NAME: '05-margay.conflist',
        CNI_MTU: '1450',
        FELIX_DEFAULTENDPOINTTOHOSTACTION: 'ACCEPT',
        FELIX_IPTABLESREFRESHINTERVAL: '60',
      },
    },
  },
  'margay-etcd.yaml': {
    about: `Margay on every node of a cluster, with etcd as its datastore, in the layout of Calico.

  kubectl -n kube-system create secret generic margay-etcd-secrets \\
    --from-file=etcd-ca=ca.pem --from-file=etcd-cert=client.pem --from-file=etcd-key=client-key.pem
  kubectl apply -f deploy/margay-etcd.yaml

${before}
Put the members of etcd in place of ETCD_ENDPOINTS.

The agents read etcd alone: margay-controllers copies Namespaces, service accounts, labels of pods, policies and Services
of the Kubernetes API there.`,
    values: {
      config: {
        DATASTORE_TYPE: 'etcdv3',
        ETCD_ENDPOINTS: 'https://192.0.2.10:2379',
        ETCD_CA_CERT_FILE: `${etcdDirectory}/etcd-ca`,
        ETCD_CERT_FILE: `${etcdDirectory}/etcd-cert`,
        ETCD_KEY_FILE: `${etcdDirectory}/etcd-key`,
      },
      etcd: { secret: 'margay-etcd-secrets' },
    },
  },
};

/** The values of a plain manifest. */
export function valuesOf({ values }: Variant): Tree {
  return merged(defaults, values);
}
