import { z } from 'zod';
import { endpointPort } from './endpoint-port.ts';
import { ip } from './fields.ts';

/** All devices of a host but its pods' and the loopback device. */
export const everyInterface = '*';

/** HostEndpoint of `projectcalico.org/v3`: the devices of a node, as what policy can protect and refer to. */
export const hostEndpointSpec = z
  .looseObject({
    node: z.string().min(1),
    interfaceName: z
      .string()
      .regex(/^(\*|[a-zA-Z0-9_.-]{1,15})$/, 'expected a network device name, or * for all')
      .optional(),
    expectedIPs: z.array(ip).default([]),
    profiles: z.array(z.string()).default([]),
    ports: z.array(endpointPort).default([]),
  })
  .refine(({ interfaceName, expectedIPs }) => interfaceName !== undefined || expectedIPs.length > 0, {
    error: 'expected a device, or expectedIPs',
    path: ['interfaceName'],
  });
