import { z } from 'zod';

/*
 * apps/v1 DaemonSet as far as deploy/ uses it. Objects are strict: the API server drops a misspelt field with no more
 * than a warning.
 */

export const name = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'a DNS label');
const absolutePath = z.string().startsWith('/');
export const labels = z.record(z.string(), z.string());
const quantity = z.string().regex(/^\d+(\.\d+)?(m|Ki|Mi|Gi)?$/, 'a quantity');
const amounts = z.strictObject({ cpu: quantity.optional(), memory: quantity.optional() });

const probe = z.strictObject({
  httpGet: z.strictObject({ host: z.string().optional(), port: z.int().min(1).max(65535), path: absolutePath }),
  initialDelaySeconds: z.int().min(0).optional(),
  periodSeconds: z.int().min(1).optional(),
  timeoutSeconds: z.int().min(1).optional(),
  failureThreshold: z.int().min(1).optional(),
});

const commandProbe = z.strictObject({
  exec: z.strictObject({ command: z.array(z.string()).min(1) }),
  periodSeconds: z.int().min(1).optional(),
  timeoutSeconds: z.int().min(1).optional(),
});

const capabilities = z.strictObject({ drop: z.array(z.string()), add: z.array(z.string()).optional() });
const seccompProfile = z.strictObject({ type: z.literal('RuntimeDefault') });

const securityContext = z.union([
  z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    ...{ readOnlyRootFilesystem: z.literal(true), capabilities, seccompProfile },
  }),
  // The API refuses `allowPrivilegeEscalation: false` beside SYS_ADMIN.
  z.strictObject({
    ...{ readOnlyRootFilesystem: z.literal(true), capabilities, seccompProfile },
    seLinuxOptions: z.strictObject({ level: z.string(), type: z.string() }),
  }),
]);

const env = z.union([
  z.strictObject({ name: z.string(), value: z.string() }),
  z.strictObject({
    name: z.string(),
    valueFrom: z.strictObject({
      fieldRef: z.strictObject({ fieldPath: z.enum(['spec.nodeName', 'status.hostIP', 'metadata.namespace']) }),
    }),
  }),
]);

export const container = z.strictObject({
  name,
  image: z.string().regex(/^[a-z0-9][a-z0-9./:_-]*(:[\w.-]+|@sha256:[0-9a-f]{64})$/, 'an image with a tag or digest'),
  imagePullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
  args: z.array(z.string()).min(1),
  envFrom: z.array(z.strictObject({ configMapRef: z.strictObject({ name }) })),
  env: z.array(env),
  ports: z.array(z.strictObject({ name, containerPort: z.int().min(1).max(65535) })).optional(),
  securityContext,
  resources: z.strictObject({ requests: amounts.optional(), limits: amounts.optional() }).optional(),
  livenessProbe: probe.optional(),
  readinessProbe: z.union([probe, commandProbe]).optional(),
  volumeMounts: z
    .array(
      z.strictObject({
        name,
        mountPath: absolutePath,
        readOnly: z.boolean().optional(),
        mountPropagation: z.enum(['None', 'HostToContainer', 'Bidirectional']).optional(),
      }),
    )
    .min(1)
    .optional(),
});

const hostPath = z.strictObject({
  path: absolutePath,
  type: z.enum(['DirectoryOrCreate', 'FileOrCreate', 'Directory', 'File']).optional(),
});
export const secret = z.strictObject({ secretName: name, defaultMode: z.int().min(0).max(0o777) });

export const tolerations = z.array(
  z.strictObject({
    operator: z.enum(['Exists', 'Equal']),
    effect: z.enum(['NoSchedule', 'NoExecute', 'PreferNoSchedule']).optional(),
    key: z.string().optional(),
    value: z.string().optional(),
  }),
);

const pod = z.strictObject({
  nodeSelector: labels,
  hostNetwork: z.literal(true),
  priorityClassName: z.string(),
  serviceAccountName: name,
  automountServiceAccountToken: z.boolean().optional(),
  imagePullSecrets: z.array(z.strictObject({ name })).min(1).optional(),
  terminationGracePeriodSeconds: z.int().min(0),
  tolerations,
  initContainers: z.array(container),
  containers: z.array(container).min(1),
  volumes: z.array(z.union([z.strictObject({ name, hostPath }), z.strictObject({ name, secret })])),
});

/** A DaemonSet with the fields that deploy/ uses, and no others. */
export const daemonSetSchema = z
  .strictObject({
    apiVersion: z.literal('apps/v1'),
    kind: z.literal('DaemonSet'),
    metadata: z.strictObject({ name, namespace: name, labels }),
    spec: z.strictObject({
      selector: z.strictObject({ matchLabels: labels }),
      updateStrategy: z.strictObject({
        type: z.literal('RollingUpdate'),
        rollingUpdate: z.strictObject({ maxUnavailable: z.int().min(1) }),
      }),
      template: z.strictObject({ metadata: z.strictObject({ labels, annotations: labels.optional() }), spec: pod }),
    }),
  })
  .refine(({ spec: { selector, template } }) => contains(template.metadata.labels, selector.matchLabels), {
    error: 'spec.selector does not select the labels of the template',
  })
  .refine(({ spec }) => mountsOf(spec.template.spec).every((mount) => volumesOf(spec.template.spec).includes(mount)), {
    error: 'a container mounts a volume that there is not',
  });

export type DaemonSet = z.output<typeof daemonSetSchema>;
export type Container = z.output<typeof container>;

function contains(all: Readonly<Record<string, string>>, some: Readonly<Record<string, string>>): boolean {
  return Object.entries(some).every(([key, value]) => all[key] === value);
}

/** All containers of the Pod, those of the start first. */
export function containersOf({ initContainers, containers }: z.output<typeof pod>): Container[] {
  return [...initContainers, ...containers];
}

function mountsOf(spec: z.output<typeof pod>): string[] {
  return containersOf(spec).flatMap(({ volumeMounts = [] }) => volumeMounts.map((mount) => mount.name));
}

function volumesOf({ volumes }: z.output<typeof pod>): string[] {
  return volumes.map((volume) => volume.name);
}
