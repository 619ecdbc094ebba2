import { composed, noted, release, type Tree, tree, value, when } from './tree.ts';

/*
 * The agent's objects but for the DaemonSet. Their names are those of the cluster's one installation.
 */

export const agent = 'margay-node';
/** Whose token the kubeconfig beside the network configuration has. */
export const plugin = 'margay-cni-plugin';
export const configMap = 'margay-config';

/**
 * Where Calico's kinds are: crd.projectcalico.org, or projectcalico.org where they are native definitions, of which a
 * cluster has one. Rights to what is not there are none.
 */
export const calicoGroups = value('calicoGroups');

export const read = ['get', 'list', 'watch'];

/** What Kubernetes itself has of what decides. */
export const readsKubernetes = {
  apiGroups: [''],
  resources: ['nodes', 'pods', 'namespaces', 'serviceaccounts', 'services'],
  verbs: read,
};

export const readsPolicy = [
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: read },
  {
    apiGroups: ['policy.networking.k8s.io'],
    resources: ['adminnetworkpolicies', 'baselineadminnetworkpolicies', 'clusternetworkpolicies'],
    verbs: read,
  },
];

/** The rights that the Kubernetes datastore takes. */
const rules = [
  noted('What decides about addresses, routes and policy.', readsKubernetes),
  ...readsPolicy,
  {
    apiGroups: calicoGroups,
    resources: [
      'bgpconfigurations',
      'bgpfilters',
      'bgppeers',
      'blockaffinities',
      'caliconodestatuses',
      'clusterinformations',
      'felixconfigurations',
      'globalnetworkpolicies',
      'globalnetworksets',
      'hostendpoints',
      'ipamblocks',
      'ipamconfigs',
      'ipamconfigurations',
      'ipamhandles',
      'ippools',
      'ipreservations',
      'networkpolicies',
      'networksets',
      'stagedglobalnetworkpolicies',
      'stagedkubernetesnetworkpolicies',
      'stagednetworkpolicies',
      'tiers',
    ],
    verbs: read,
  },
  noted('Addresses of pods and tunnels, as annotations.', {
    apiGroups: [''],
    resources: ['nodes/status', 'pods/status'],
    verbs: ['patch'],
  }),
  noted('Blocks, their owners, and who holds which address.', {
    apiGroups: calicoGroups,
    resources: ['blockaffinities', 'ipamblocks', 'ipamhandles'],
    verbs: ['create', 'update', 'patch', 'delete'],
  }),
  noted('The status of a node where it is asked for.', {
    apiGroups: calicoGroups,
    resources: ['caliconodestatuses'],
    verbs: ['update'],
  }),
  noted('The first node of a cluster writes what every cluster has.', {
    apiGroups: calicoGroups,
    resources: ['clusterinformations', 'felixconfigurations', 'ippools'],
    verbs: ['create'],
  }),
  noted('A watch that hears nothing asks whether the server is alive.', {
    nonResourceURLs: ['/version'],
    verbs: ['get'],
  }),
];

export const serviceAccount: Tree = tree({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name: agent, namespace: release('Namespace') },
});

export const onKubernetes = (object: Tree) => when('config.DATASTORE_TYPE', object, 'kubernetes');
export const rbac = 'rbac.authorization.k8s.io';

export const clusterRole: Tree = onKubernetes(
  tree({ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: agent }, rules }),
);

export const clusterRoleBinding: Tree = tree({
  apiVersion: `${rbac}/v1`,
  kind: 'ClusterRoleBinding',
  metadata: { name: agent },
  roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: agent },
  subjects: [{ kind: 'ServiceAccount', name: agent, namespace: release('Namespace') }],
});

/** With etcd the API is only asked of the pod that starts. */
export const podReader: Tree = when(
  'config.DATASTORE_TYPE',
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRole',
    metadata: { name: agent },
    rules: [
      noted('Labels and annotations of the pod that starts, and of its namespace.', {
        apiGroups: [''],
        resources: ['pods', 'namespaces'],
        verbs: ['get'],
      }),
    ],
  }),
  'etcdv3',
);

/** Of the plugins on the host, which write nothing: ours asks felix. */
export const pluginAccount: Tree = onKubernetes(
  tree({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: plugin, namespace: release('Namespace') },
    automountServiceAccountToken: false,
  }),
);

export const pluginRole: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRole',
    metadata: { name: plugin },
    rules: [
      noted('Which pod it is that a chained plugin is asked about.', {
        apiGroups: [''],
        resources: ['nodes', 'namespaces', 'pods'],
        verbs: ['get'],
      }),
    ],
  }),
);

export const pluginRoleBinding: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: plugin },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: plugin },
    subjects: [{ kind: 'ServiceAccount', name: plugin, namespace: release('Namespace') }],
  }),
);

/** The right to ask for that account's token, and for no other's. */
export const tokenRole: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'Role',
    metadata: { name: agent, namespace: release('Namespace') },
    rules: [
      noted('The token of the kubeconfig that plugins on the host have.', {
        apiGroups: [''],
        resources: ['serviceaccounts/token'],
        resourceNames: [plugin],
        verbs: ['create'],
      }),
    ],
  }),
);

export const tokenRoleBinding: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'RoleBinding',
    metadata: { name: agent, namespace: release('Namespace') },
    roleRef: { apiGroup: rbac, kind: 'Role', name: agent },
    subjects: [{ kind: 'ServiceAccount', name: agent, namespace: release('Namespace') }],
  }),
);

export const config: Tree = noted('What all containers of the agent have in common.', {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: configMap, namespace: release('Namespace') },
  data: value('config'),
});

/** Where the Secret of BGP's passwords is mounted, as SecretFiles reads it: `<directory>/<name>/<key>`. */
export const secretsDirectory = '/etc/margay/secrets';
export const secretMount = composed(`${secretsDirectory}/`, 'bgp.secret');
