import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { type Family, parseIp } from './address.ts';

/*
 * Service (v1) and EndpointSlice (discovery.k8s.io/v1): what the announcement of service addresses
 * and rules that name services read of them. Calico
 * has no such kinds in etcd; these are ours, in the envelope of all others (docs/decisions/0015).
 */

const ip = z.string().refine((text) => {
  try {
    parseIp(text);
    return true;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}, 'expected an IP address');

const trafficPolicy = z.enum(['Cluster', 'Local']);

export const serviceSpec = z.looseObject({
  type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']).default('ClusterIP'),
  /** Both families' where the service has two; empty for a headless service. */
  clusterIPs: z.array(ip).default([]),
  externalIPs: z.array(ip).default([]),
  /** Of the object's `status.loadBalancer.ingress`; names of hosts are left out. */
  loadBalancerIPs: z.array(ip).default([]),
  /** Who gives it addresses; absent: whoever gives them to all. */
  loadBalancerClass: z.string().optional(),
  externalTrafficPolicy: trafficPolicy.default('Cluster'),
  internalTrafficPolicy: trafficPolicy.default('Cluster'),
  /** What it is reached on. Its EndpointSlices say by the same names where that leads. */
  ports: z
    .array(
      z.looseObject({
        name: z.string().optional(),
        protocol: z.enum(['TCP', 'UDP', 'SCTP']).default('TCP'),
        port: z.number().int().min(1).max(65535),
      }),
    )
    .default([]),
});

const condition = z.boolean().optional();

export const endpointSliceSpec = z.looseObject({
  /** Name of the Service in the same namespace; absent: the endpoints are of none. */
  service: z.string().min(1).optional(),
  addressType: z.enum(['IPv4', 'IPv6', 'FQDN']),
  endpoints: z
    .array(
      z.looseObject({
        addresses: z.array(z.string()).default([]),
        nodeName: z.string().optional(),
        conditions: z.looseObject({ ready: condition, serving: condition, terminating: condition }).default({}),
      }),
    )
    .default([]),
  /** On which the service reaches every endpoint; one without a number means all. */
  ports: z
    .array(
      z.looseObject({
        name: z.string().optional(),
        protocol: z.enum(['TCP', 'UDP', 'SCTP']).default('TCP'),
        port: z.number().int().min(1).max(65535).optional(),
      }),
    )
    .default([]),
});

/** The family of an EndpointSlice's addresses; undefined for names. */
export function familyOfSlice({ addressType }: z.output<typeof endpointSliceSpec>): Family | undefined {
  return addressType === 'IPv4' ? 4 : addressType === 'IPv6' ? 6 : undefined;
}
