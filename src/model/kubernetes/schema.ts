import { z } from 'zod';
import { InputError } from '../../base/errors.ts';
import { contains, parseCidr } from '../address.ts';

/*
 * The Kubernetes objects that are copied into the datastore, checked as the Kubernetes API server checks them. Fields
 * of a policy that are not known are refused: ignoring one could widen a rule. A null field is an absent one, as the
 * API server reads it.
 */

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const word = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

export const objectName = z
  .string()
  .max(253)
  .regex(subdomain, 'expected a DNS subdomain name: lower case letters, digits, - and .');
const namespaceName = z
  .string()
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'expected a DNS label');
export const labelKey = z.string().refine(isLabelKey, 'expected a label key such as app or example.com/app');
const labelValue = z
  .string()
  .max(63)
  .refine((text) => text === '' || word.test(text), 'expected a label value');
const labels = z.record(labelKey, labelValue);

const requirement = z
  .strictObject({
    key: labelKey,
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: z.array(labelValue).nullish(),
  })
  .superRefine(({ operator, values }, context) => {
    const wanted = operator === 'In' || operator === 'NotIn';
    if (wanted === (values ?? []).length > 0) return;
    const message = wanted ? `expected values for the operator ${operator}` : `expected no values with ${operator}`;
    context.addIssue({ code: 'custom', path: ['values'], message });
  });

export const labelSelector = z.strictObject({
  matchLabels: labels.nullish(),
  matchExpressions: z.array(requirement).nullish(),
});

export const cidr = z.string().transform((text, context) => {
  try {
    if (text.includes('/')) return parseCidr(text);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
  }
  context.addIssue({ code: 'custom', message: 'expected a prefix such as 10.0.0.0/8 or fd00::/64' });
  return z.NEVER;
});

export const ipBlock = z.strictObject({ cidr, except: z.array(cidr).nullish() }).superRefine((block, context) => {
  for (const [index, except] of (block.except ?? []).entries()) {
    if (contains(block.cidr, except) && except !== block.cidr) continue;
    const message = `expected a prefix that is part of ${block.cidr}`;
    context.addIssue({ code: 'custom', path: ['except', index], message });
  }
});

export const portNumber = z.number().int().min(1).max(65535);

export const policyPort = z
  .strictObject({
    protocol: z.enum(['TCP', 'UDP', 'SCTP']).nullish(),
    port: z
      .custom<number | string>(isPort, 'expected a port from 1 to 65535 or the name of one (at most 15 of a-z, 0-9, -)')
      .nullish(),
    endPort: portNumber.nullish(),
  })
  .superRefine(({ port, endPort }, context) => {
    if (endPort === null || endPort === undefined) return;
    if (typeof port === 'number' && endPort >= port) return;
    const message = typeof port === 'number' ? `expected ${port} or more` : 'expected a numeric port beside endPort';
    context.addIssue({ code: 'custom', path: ['endPort'], message });
  });

export const policyPeer = z
  .strictObject({
    podSelector: labelSelector.nullish(),
    namespaceSelector: labelSelector.nullish(),
    ipBlock: ipBlock.nullish(),
  })
  .superRefine((peer, context) => {
    const selects = Boolean(peer.podSelector ?? peer.namespaceSelector);
    if (selects !== Boolean(peer.ipBlock)) return;
    const message = selects
      ? 'expected ipBlock or selectors, not both'
      : 'expected podSelector, namespaceSelector or ipBlock';
    context.addIssue({ code: 'custom', message });
  });

const ports = z.array(policyPort).nullish();
const peers = z.array(policyPeer).nullish();

export const networkPolicySpec = z.strictObject({
  podSelector: labelSelector.nullish(),
  policyTypes: z.array(z.enum(['Ingress', 'Egress'])).nullish(),
  ingress: z.array(z.strictObject({ from: peers, ports })).nullish(),
  egress: z.array(z.strictObject({ to: peers, ports })).nullish(),
});

export const networkPolicy = z.strictObject({
  kind: z.literal('NetworkPolicy'),
  apiVersion: z.literal('networking.k8s.io/v1'),
  metadata: z.looseObject({ name: objectName, namespace: namespaceName.nullish() }),
  spec: networkPolicySpec,
  /** Written by old API servers; says nothing about traffic. */
  status: z.looseObject({}).nullish(),
});

export const namespace = z.looseObject({
  kind: z.literal('Namespace'),
  apiVersion: z.literal('v1'),
  metadata: z.looseObject({ name: namespaceName, labels: labels.nullish() }),
});

export const serviceAccount = z.looseObject({
  kind: z.literal('ServiceAccount'),
  apiVersion: z.literal('v1'),
  metadata: z.looseObject({ name: objectName, namespace: namespaceName.nullish(), labels: labels.nullish() }),
});

const trafficPolicy = z.enum(['Cluster', 'Local']).nullish();
const ips = z.array(z.string()).nullish();

/** Only what the announcement of addresses and explain need; everything else may be there. */
export const service = z.looseObject({
  kind: z.literal('Service'),
  apiVersion: z.literal('v1'),
  metadata: z.looseObject({
    name: objectName,
    namespace: namespaceName.nullish(),
    labels: labels.nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
  }),
  spec: z.looseObject({
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']).nullish(),
    clusterIP: z.string().nullish(),
    clusterIPs: ips,
    externalIPs: ips,
    loadBalancerClass: z.string().nullish(),
    externalTrafficPolicy: trafficPolicy.or(z.literal('')),
    internalTrafficPolicy: trafficPolicy,
    ports: z
      .array(
        z.looseObject({
          name: z.string().nullish(),
          protocol: z.enum(['TCP', 'UDP', 'SCTP']).nullish(),
          port: z.number().int().min(1).max(65535),
        }),
      )
      .nullish(),
  }),
  status: z
    .looseObject({
      loadBalancer: z
        .looseObject({ ingress: z.array(z.looseObject({ ip: z.string().nullish() })).nullish() })
        .nullish(),
    })
    .nullish(),
});

const condition = z.boolean().nullish();

export const endpointSlice = z.looseObject({
  kind: z.literal('EndpointSlice'),
  apiVersion: z.literal('discovery.k8s.io/v1'),
  metadata: z.looseObject({ name: objectName, namespace: namespaceName.nullish(), labels: labels.nullish() }),
  addressType: z.enum(['IPv4', 'IPv6', 'FQDN']),
  endpoints: z
    .array(
      z.looseObject({
        addresses: z.array(z.string()).nullish(),
        nodeName: z.string().nullish(),
        conditions: z.looseObject({ ready: condition, serving: condition, terminating: condition }).nullish(),
      }),
    )
    .nullish(),
  ports: z
    .array(
      z.looseObject({
        name: z.string().nullish(),
        protocol: z.enum(['TCP', 'UDP', 'SCTP']).nullish(),
        port: portNumber.nullish(),
      }),
    )
    .nullish(),
});

export type KubernetesService = z.output<typeof service>;
export type KubernetesEndpointSlice = z.output<typeof endpointSlice>;
export type LabelSelector = z.output<typeof labelSelector>;
export type Requirement = z.output<typeof requirement>;
export type PolicyPort = z.output<typeof policyPort>;
export type PolicyPeer = z.output<typeof policyPeer>;
export type NetworkPolicySpec = z.output<typeof networkPolicySpec>;

function isLabelKey(text: string): boolean {
  const slash = text.indexOf('/');
  const prefix = slash < 0 ? undefined : text.slice(0, slash);
  const name = text.slice(slash + 1);
  if (prefix !== undefined && (prefix.length > 253 || !subdomain.test(prefix))) return false;
  return name.length <= 63 && word.test(name);
}

/** A number in range, or an IANA service name (RFC 6335 §5.1). */
export function isPort(value: unknown): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 1 && value <= 65535;
  if (typeof value !== 'string' || value.length > 15) return false;
  return /^[a-z0-9]+(-[a-z0-9]+)*$/.test(value) && /[a-z]/.test(value);
}
