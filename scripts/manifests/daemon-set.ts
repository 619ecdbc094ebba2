import { agent, configMap, plugin, secretMount, secretsDirectory } from './objects.ts';
import { digest, inChart, type Literal, noted, release, type Tree, tree, value, when } from './tree.ts';

/*
 * The agent's Pod on every node: `startup` and `install-cni` once, then `felix` and, where the backend is `bird`, `bgp`.
 */

/** Of a process that only reads what its neighbours and the datastore tell. */
export function confined(...add: string[]): Record<string, Literal> {
  return {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], ...(add.length > 0 && { add }) },
    seccompProfile: { type: 'RuntimeDefault' },
  };
}

/** The node's name here, and in Kubernetes. */
const nodeNames = ['NODENAME', 'CALICO_K8S_NODE_REF'].map((name) => ({
  name,
  valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } },
}));

export function container(
  name: string,
  args: readonly string[],
  env: readonly Literal[] = [],
): Record<string, Literal> {
  return {
    name,
    image: value('image'),
    imagePullPolicy: value('imagePullPolicy'),
    args,
    envFrom: [{ configMapRef: { name: configMap } }],
    env: [...nodeNames, ...env],
  };
}

function probe(path: string, times: Record<string, number>): Literal {
  return { httpGet: { host: 'localhost', port: 9099, path }, ...times, periodSeconds: 10, timeoutSeconds: 10 };
}

export const certificates = { name: 'etcd-certs', mountPath: '/etc/margay/etcd', readOnly: true };
const run = { name: 'run', mountPath: '/var/run/margay' };
/** CNI DELs that wait for the agent, where the launcher on the host leaves them. */
const lib = { name: 'lib', mountPath: '/var/lib/margay' };

/** Where felix finds the host's sysctls: a container's own /proc/sys is read-only. */
const sysctlRoot = '/host/proc/sys';

const startup = {
  ...container('startup', ['startup']),
  securityContext: confined(),
  volumeMounts: when('etcd.secret', [certificates]),
};

/** The host's network configurations: the installer writes there, and felix renews the kubeconfig's token. */
const cniConf = { name: 'cni-conf', mountPath: '/host/etc/cni/net.d' };
const pluginName = when('config.DATASTORE_TYPE', { name: 'CALICO_CNI_SERVICE_ACCOUNT', value: plugin }, 'kubernetes');

const installCni = {
  ...container(
    'install-cni',
    ['cni', 'install', '--bin-dir', '/host/opt/cni/bin', '--conf-dir', cniConf.mountPath],
    [pluginName, { name: 'CNI_NET_DIR', value: value('cni.confDir') }],
  ),
  securityContext: confined(),
  volumeMounts: [{ name: 'cni-bin', mountPath: '/host/opt/cni/bin' }, cniConf],
};

const felix = {
  ...container('felix', ['felix'], [{ name: 'MARGAY_SYSCTL_ROOT', value: sysctlRoot }, pluginName]),
  securityContext: value('felix.securityContext'),
  resources: value('felix.resources'),
  livenessProbe: probe('/liveness', { initialDelaySeconds: 10, failureThreshold: 6 }),
  readinessProbe: probe('/readiness', {}),
  volumeMounts: [
    run,
    lib,
    { name: 'netns', mountPath: '/var/run/netns', mountPropagation: 'HostToContainer' },
    { name: 'xtables-lock', mountPath: '/run/xtables.lock' },
    { name: 'sysctl', mountPath: `${sysctlRoot}/net` },
    { name: 'tun', mountPath: '/dev/net' },
    when('config.DATASTORE_TYPE', cniConf, 'kubernetes'),
    when('config.USE_POD_CIDR', { name: 'cni-networks', mountPath: '/var/lib/cni/networks' }, 'true'),
    when('etcd.secret', certificates),
  ],
};

/** The probe's command is one of Calico's, which looks where Calico's manifests have the sockets. */
const runDirectory = { name: 'MARGAY_RUN_DIR', value: run.mountPath };

const bgp = {
  ...container(
    'bgp',
    ['bgp'],
    [runDirectory, when('bgp.secret', { name: 'MARGAY_SECRETS_DIR', value: secretsDirectory })],
  ),
  securityContext: confined('NET_BIND_SERVICE'),
  resources: value('bgp.resources'),
  // Felix asks by HTTP; the speaker listens to nobody but peers and its sockets.
  readinessProbe: { exec: { command: ['/bin/calico-node', '-bird-ready'] }, periodSeconds: 10, timeoutSeconds: 10 },
  volumeMounts: [
    run,
    when('etcd.secret', certificates),
    when('bgp.secret', { name: 'bgp-secrets', mountPath: secretMount, readOnly: true }),
  ],
};

function hostPath(name: string, path: Literal, type?: string): Literal {
  return { name, hostPath: { path, ...(type !== undefined && { type }) } };
}

/** Files that root alone may read, 0400 in octal. */
function secret(name: string, path: string): Literal {
  return when(path, { name, secret: { secretName: value(path), defaultMode: 256 } });
}

const volumes = [
  hostPath('run', '/var/run/margay', 'DirectoryOrCreate'),
  hostPath('lib', '/var/lib/margay', 'DirectoryOrCreate'),
  hostPath('netns', '/var/run/netns', 'DirectoryOrCreate'),
  hostPath('xtables-lock', '/run/xtables.lock', 'FileOrCreate'),
  hostPath('sysctl', '/proc/sys/net', 'Directory'),
  hostPath('tun', '/dev/net', 'DirectoryOrCreate'),
  hostPath('cni-bin', value('cni.binDir'), 'DirectoryOrCreate'),
  hostPath('cni-conf', value('cni.confDir'), 'DirectoryOrCreate'),
  when('config.USE_POD_CIDR', hostPath('cni-networks', '/var/lib/cni/networks', 'DirectoryOrCreate'), 'true'),
  secret('etcd-certs', 'etcd.secret'),
  secret('bgp-secrets', 'bgp.secret'),
];

const pod = {
  nodeSelector: value('nodeSelector'),
  hostNetwork: true,
  priorityClassName: noted(
    'Pods come back before the agent does only if the agent itself waits for no pod network.',
    'system-node-critical',
  ),
  serviceAccountName: agent,
  imagePullSecrets: when('imagePullSecrets', value('imagePullSecrets')),
  terminationGracePeriodSeconds: 10,
  tolerations: value('tolerations'),
  initContainers: [startup, installCni],
  containers: [felix, when('config.CALICO_NETWORKING_BACKEND', bgp, 'bird')],
  volumes,
};

const labels = { 'k8s-app': agent };

export const daemonSet: Tree = tree({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: agent, namespace: release('Namespace'), labels },
  spec: {
    selector: { matchLabels: labels },
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } },
    // A change of the settings starts the Pods again.
    template: { metadata: { labels, annotations: inChart({ 'checksum/config': digest('config') }) }, spec: pod },
  },
});
