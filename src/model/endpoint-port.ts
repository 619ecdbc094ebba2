import { z } from 'zod';

/** A port of an endpoint that policies may name: `ports` of WorkloadEndpoint and HostEndpoint. */
export const endpointPort = z.looseObject({
  name: z.string(),
  protocol: z.union([z.string(), z.number()]),
  port: z.number().int().min(1).max(65535),
});
