import { image } from '../containerd/runtime.ts';

/* What people run on a cluster: a server on each node, clients of it, and somebody whom it does not know. */

/** The port on which the servers say their Pod's name. */
export const port = 8080;

/** The port on which they take one connection, and keep what comes in `/stream`. */
export const streamPort = 9000;

const serve = `busybox mkdir /www; busybox hostname >/www/index.html
sleep 100000 | nc -l -p ${streamPort} >/stream & exec httpd -f -p ${port} -h /www`;

interface Workload {
  readonly name: string;
  readonly replicas: number;
  readonly command: readonly string[];
  readonly ports?: readonly object[];
  readonly readinessProbe?: object;
}

/** A Deployment whose Pods are on different nodes. */
function deployment({ name, replicas, command, ...more }: Workload): object {
  const labels = { app: name };
  const apart = { labelSelector: { matchLabels: labels }, topologyKey: 'kubernetes.io/hostname' };
  const spec = {
    affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [apart] } },
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image, imagePullPolicy: 'Never', command, ...more }],
  };
  return {
    ...{ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name } },
    spec: { replicas, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
  };
}

const wait = ['sh', '-c', 'trap exit TERM; sleep 100000 & wait'];

/** A server and a client on each of two nodes, a stranger somewhere, and the service of the servers. */
export const workloads: readonly object[] = [
  deployment({
    ...{ name: 'web', replicas: 2, command: ['sh', '-c', serve], ports: [{ containerPort: port }] },
    readinessProbe: { httpGet: { port, path: '/' }, periodSeconds: 2 },
  }),
  deployment({ name: 'client', replicas: 2, command: wait }),
  deployment({ name: 'stranger', replicas: 1, command: wait }),
  {
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web' } },
    spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: port }] },
  },
];

/** Lets clients alone come in to the servers. */
export const onlyClients: object = {
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'only-clients' } },
  spec: {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Ingress'],
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'client' } } }] }],
  },
};

/**
 * A shell's command that sends an echo request and a line of the connection each tenth of a second, in the background;
 * `/ping` gets what became of the former, once the process named in `/ping.pid` is interrupted.
 */
export function traffic(to: string): string {
  return `ping -i 0.1 ${to} >/ping 2>&1 & echo $! >/ping.pid
(while echo tick; do sleep 0.1; done | nc ${to} ${streamPort}) >/nc 2>&1 &`;
}

/** A command that fetches what a server says, or fails within seconds. */
export function fetching(host: string, at: number): readonly string[] {
  return ['busybox', 'timeout', '3', 'wget', '-q', '-O', '-', `http://${host}:${at}/`];
}

export interface Pod {
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly nodeName?: string; readonly containers: readonly { readonly image: string }[] };
  readonly status: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number }[];
  };
}

/** Whether the kubelet calls a Pod ready. */
export function isReady({ status }: Pod): boolean {
  return (status.conditions ?? []).some((each) => each.type === 'Ready' && each.status === 'True');
}
