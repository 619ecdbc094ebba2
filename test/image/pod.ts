import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Fields } from '../containerd/cri.ts';

/*
 * What a kubelet makes of a workload's Pod for the container runtime: fields of runtime.v1's ContainerConfig and
 * LinuxPodSandboxConfig, numbered as in its api.proto.
 */

export interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: Field }[];
  readonly securityContext: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly readOnlyRootFilesystem: boolean;
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] };
  };
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly mountPropagation?: string;
  }[];
}

interface Field {
  readonly fieldRef: { readonly fieldPath: string };
}

export interface Pod {
  readonly securityContext?: { readonly runAsUser?: number; readonly runAsGroup?: number };
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes?: readonly {
    readonly name: string;
    readonly hostPath?: { readonly path: string; readonly type?: string };
  }[];
}

export interface Host {
  /** Variables of the ConfigMap, and what the kubelet adds. */
  readonly env: Readonly<Record<string, string>>;
  /** `spec.nodeName` → the node's. */
  readonly fields: Readonly<Record<string, string>>;
  /** Directory of the host in place of a path there. */
  readonly elsewhere: (path: string) => string;
  /** Paths of the host that are the same inside, since processes of both name them to each other. */
  readonly shared: readonly string[];
  /** Where the token of the Pod's account is. */
  readonly account: string;
}

/** NamespaceMode. */
const container = 1;
const node = 2;
const hostToContainer = 1;

/** The sandbox of a Pod on the host's network; the seccomp profile is the runtime's own. */
export const onHostNetwork: Fields = [[2, [[1, [[1, node]]]]]];

/** ContainerConfig but for name and image. */
export function containerFields(pod: Pod, of: Container, host: Host): Fields {
  return [
    ...of.args.map((word) => [4, word] as const),
    ...Object.entries(environment(of, host)).map(
      ([key, value]) =>
        [
          6,
          [
            [1, key],
            [2, value],
          ],
        ] as const,
    ),
    ...mounts(pod, of, host).map((fields) => [7, fields] as const),
    [11, `${of.name}.log`],
    [15, [[2, security(pod, of)]]],
  ];
}

function environment({ env = [] }: Container, host: Host): Record<string, string> {
  const own = env.map(({ name, value, valueFrom }) => {
    const text = valueFrom === undefined ? value : host.fields[valueFrom.fieldRef.fieldPath];
    return [name, text ?? ''] as const;
  });
  return { ...Object.fromEntries(own), ...host.env };
}

function mounts(pod: Pod, { volumeMounts = [] }: Container, host: Host): Fields[] {
  const account: Fields = [
    [1, '/var/run/secrets/kubernetes.io/serviceaccount'],
    [2, host.account],
    [3, 1],
  ];
  const volumes = volumeMounts.map(({ name, mountPath, mountPropagation }): Fields => {
    const source = pod.volumes?.find((each) => each.name === name)?.hostPath;
    if (source === undefined) throw new TypeError(`volume ${name} is no hostPath`);
    const path = host.elsewhere(source.path);
    make(path, source.type);
    const propagation: Fields = mountPropagation === 'HostToContainer' ? [[5, hostToContainer]] : [];
    return [[1, host.shared.includes(source.path) ? path : mountPath], [2, path], ...propagation];
  });
  return [account, ...volumes];
}

/** As the kubelet does for a type that ends in OrCreate. */
function make(path: string, type: string | undefined): void {
  if (existsSync(path)) return;
  if (type === 'DirectoryOrCreate') mkdirSync(path, { recursive: true });
  if (type !== 'FileOrCreate') return;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, '');
}

/** LinuxContainerSecurityContext. */
function security({ securityContext: of = {} }: Pod, { securityContext }: Container): Fields {
  const { capabilities, readOnlyRootFilesystem, allowPrivilegeEscalation } = securityContext;
  const { drop, add = [] } = capabilities;
  const user = (field: number, id: number | undefined): Fields => (id === undefined ? [] : [[field, [[1, id]]]]);
  return [
    [1, [...add.map((name) => [1, name] as const), ...drop.map((name) => [2, name] as const)]],
    [
      3,
      [
        [1, node],
        [2, container],
      ],
    ],
    ...user(5, of.runAsUser),
    [7, readOnlyRootFilesystem ? 1 : 0],
    [11, allowPrivilegeEscalation === false ? 1 : 0],
    ...user(12, of.runAsGroup),
    // SecurityProfile RuntimeDefault, which is 0.
    [15, [[1, 0]]],
  ];
}

/** A place below a folder for what a machine has once, so that two tests do not meet; the kernel's own stay. */
export function below(folder: string): (path: string) => string {
  const shared = ['/proc/', '/dev/'];
  // The runtime wants the mount by its own name, which is told on to the container.
  return (path) => {
    if (path === '/var/run/netns') return '/run/netns';
    return shared.some((prefix) => path.startsWith(prefix)) ? path : join(folder, path);
  };
}
