import { z } from 'zod';

/*
 * The policy part of `projectcalico.org/v3`: what NetworkPolicy and Profile share. Kubernetes policies are converted
 * to these (model/kubernetes.ts), so that the compiler knows one language.
 */

/** A port: a number, a range `"80:90"`, or a name. */
const port = z.union([z.number().int().min(0).max(65535), z.string().min(1)]);
/** A protocol: a number, or a name such as `TCP`. */
const protocol = z.union([
  z.number().int().min(0).max(255),
  z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6', 'UDPLite']),
]);
const icmp = z.strictObject({
  type: z.number().int().min(0).max(254).optional(),
  code: z.number().int().min(0).max(255).optional(),
});

export const entityRule = z.strictObject({
  nets: z.array(z.string()).optional(),
  notNets: z.array(z.string()).optional(),
  selector: z.string().optional(),
  notSelector: z.string().optional(),
  namespaceSelector: z.string().optional(),
  ports: z.array(port).optional(),
  notPorts: z.array(port).optional(),
});

export const policyRule = z.strictObject({
  action: z.enum(['Allow', 'Deny', 'Log', 'Pass']),
  ipVersion: z.union([z.literal(4), z.literal(6)]).optional(),
  protocol: protocol.optional(),
  notProtocol: protocol.optional(),
  icmp: icmp.optional(),
  notICMP: icmp.optional(),
  source: entityRule.optional(),
  destination: entityRule.optional(),
  metadata: z.looseObject({ annotations: z.record(z.string(), z.string()).optional() }).optional(),
});

export const networkPolicySpec = z.looseObject({
  tier: z.string().optional(),
  order: z.number().optional(),
  selector: z.string().optional(),
  types: z.array(z.enum(['Ingress', 'Egress'])).optional(),
  ingress: z.array(policyRule).optional(),
  egress: z.array(policyRule).optional(),
});

export const profileSpec = z.looseObject({
  ingress: z.array(policyRule).optional(),
  egress: z.array(policyRule).optional(),
  labelsToApply: z.record(z.string(), z.string()).optional(),
});

export type EntityRule = z.output<typeof entityRule>;
export type PolicyRule = z.output<typeof policyRule>;
