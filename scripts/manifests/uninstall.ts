import { confined } from './daemon-set.ts';
import { configMap } from './objects.ts';
import { emit, head, type Literal, resolve, tree, value } from './tree.ts';
import { defaults } from './values.ts';

/* What takes Margay off the nodes again, once its own objects are deleted: each node's plugin, then its kernel. */

export const uninstallFile = 'margay-uninstall.yaml';

const name = 'margay-uninstall';
const labels = { 'k8s-app': name };
const image = { image: value('image'), imagePullPolicy: value('imagePullPolicy') };
const folders = { bin: '/host/opt/cni/bin', conf: '/host/etc/cni/net.d' };

/** Settings that say what is ours by which name. */
const envFrom: Literal = [{ configMapRef: { name: configMap, optional: true } }];

/** The plugin's files, first: from then on the runtime starts no pod here. */
const removePlugin = {
  name: 'remove-cni',
  ...image,
  args: ['cni', 'uninstall', '--bin-dir', folders.bin, '--conf-dir', folders.conf],
  envFrom,
  securityContext: confined(),
  volumeMounts: [
    { name: 'cni-bin', mountPath: folders.bin },
    { name: 'cni-conf', mountPath: folders.conf },
  ],
};

const cleanKernel = {
  name: 'clean-kernel',
  ...image,
  args: ['felix', 'cleanup', '--devices'],
  envFrom,
  securityContext: {
    ...confined('NET_ADMIN', 'NET_RAW'),
    seLinuxOptions: value('felix.securityContext.seLinuxOptions'),
  },
  volumeMounts: [
    { name: 'run', mountPath: '/var/run/margay' },
    { name: 'xtables-lock', mountPath: '/run/xtables.lock' },
  ],
};

const pod = {
  nodeSelector: value('nodeSelector'),
  hostNetwork: true,
  automountServiceAccountToken: false,
  priorityClassName: 'system-node-critical',
  terminationGracePeriodSeconds: 1,
  tolerations: value('tolerations'),
  initContainers: [removePlugin, cleanKernel],
  // A node is done when this runs.
  containers: [{ name: 'done', ...image, command: ['sleep', 'infinity'], securityContext: confined() }],
  volumes: [
    { name: 'run', hostPath: { path: '/var/run/margay', type: 'DirectoryOrCreate' } },
    { name: 'xtables-lock', hostPath: { path: '/run/xtables.lock', type: 'FileOrCreate' } },
    { name: 'cni-bin', hostPath: { path: value('cni.binDir'), type: 'DirectoryOrCreate' } },
    { name: 'cni-conf', hostPath: { path: value('cni.confDir'), type: 'DirectoryOrCreate' } },
  ],
};

const about = `Takes Margay off every node: the CNI plugin with its network configuration, then routes, rules, IP sets, tunnels and
pods' devices.

  kubectl -n kube-system delete deployment margay-controllers --cascade=foreground
  kubectl -n kube-system delete daemonset margay-node --cascade=foreground
  kubectl apply -f deploy/margay-uninstall.yaml
  kubectl -n kube-system rollout status daemonset margay-uninstall
  kubectl delete --ignore-not-found -f deploy/margay-uninstall.yaml -f deploy/margay.yaml -f deploy/crds

Before that: delete the Pods on the pod network, or drain the nodes; those that still run lose it, and the runtime cannot
end them before the nodes have another plugin. Put the name of the installed image in place of margay:0.1.0.`;

/** The manifest's text. */
export function uninstaller(): string {
  const daemonSet = tree({
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name, namespace: 'kube-system', labels },
    spec: {
      selector: { matchLabels: labels },
      // All nodes at once.
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '100%' } },
      template: { metadata: { labels }, spec: pod },
    },
  });
  const made = resolve(daemonSet, { Values: defaults, Release: tree({}) });
  if (made === undefined) throw new TypeError('the DaemonSet depends on nothing');
  return head(about) + emit(made);
}
