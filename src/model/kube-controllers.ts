import { z } from 'zod';
import { durationSeconds } from './felix-configuration.ts';

/* KubeControllersConfiguration of `projectcalico.org/v3`: what the cluster's controllers do. Only `default` counts. */

const duration = z
  .string()
  .refine((text) => !Number.isNaN(durationSeconds(text)), 'expected a duration such as 90s or 1m30s');
const enabled = z.enum(['Enabled', 'Disabled']);
const periodic = z.looseObject({ reconcilerPeriod: duration.optional() });

const nodeController = z.looseObject({
  reconcilerPeriod: duration.optional(),
  /** How long an address must have been lost before it is freed; 0: never. */
  leakGracePeriod: duration.optional(),
  syncLabels: enabled.optional(),
  hostEndpoint: z
    .looseObject({ autoCreate: enabled.optional(), createDefaultHostEndpoint: enabled.optional() })
    .optional(),
});

export const kubeControllersConfigurationSpec = z.looseObject({
  logSeverityScreen: z.enum(['None', 'Debug', 'Info', 'Warning', 'Error', 'Fatal']).optional(),
  healthChecks: enabled.optional(),
  /** 0: none. */
  prometheusMetricsPort: z.number().int().min(0).max(65535).optional(),
  /** A controller runs where its part is there, empty or not. */
  controllers: z
    .looseObject({
      node: nodeController.optional(),
      policy: periodic.optional(),
      workloadEndpoint: periodic.optional(),
      serviceAccount: periodic.optional(),
      namespace: periodic.optional(),
      loadBalancer: z
        .looseObject({ assignIPs: z.enum(['AllServices', 'RequestedServicesOnly']).optional() })
        .optional(),
    })
    .optional(),
});
