import { z } from 'zod';
import { container, labels, name, secret, tolerations } from './daemon-set.ts';

/* apps/v1 Deployment as far as deploy/ uses it. Objects are strict, as those of the DaemonSet. */

const id = z.int().min(1);
const selector = z.strictObject({ matchLabels: labels });

const pod = z.strictObject({
  nodeSelector: labels,
  hostNetwork: z.literal(true).optional(),
  priorityClassName: z.string(),
  serviceAccountName: name,
  imagePullSecrets: z.array(z.strictObject({ name })).min(1).optional(),
  securityContext: z.strictObject({ runAsNonRoot: z.literal(true), runAsUser: id, runAsGroup: id, fsGroup: id }),
  tolerations,
  topologySpreadConstraints: z.array(
    z.strictObject({
      maxSkew: z.int().min(1),
      topologyKey: z.string(),
      whenUnsatisfiable: z.enum(['ScheduleAnyway', 'DoNotSchedule']),
      labelSelector: selector,
    }),
  ),
  containers: z.array(container).min(1),
  volumes: z.array(z.strictObject({ name, secret })).optional(),
});

/** A Deployment with the fields that deploy/ uses, and no others. */
export const deploymentSchema = z.strictObject({
  apiVersion: z.literal('apps/v1'),
  kind: z.literal('Deployment'),
  metadata: z.strictObject({ name, namespace: name, labels }),
  spec: z.strictObject({
    replicas: z.int().min(0),
    selector,
    template: z.strictObject({ metadata: z.strictObject({ labels, annotations: labels.optional() }), spec: pod }),
  }),
});
