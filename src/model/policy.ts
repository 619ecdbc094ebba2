import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { type Cidr, hostCidr, parseCidr, parseIp } from './address.ts';
import { networkPolicySpec as kubernetesPolicySpec } from './kubernetes/schema.ts';

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

/**
 * Annotations of a rule that was converted: where in the original it was written, counted from 0 (absent: at the same
 * place), and what it is called there.
 */
export const ruleIndexAnnotation = 'margay.io/rule';
export const ruleNameAnnotation = 'margay.io/rule-name';

/**
 * Annotations of a rule whose peers are in namespaces that share the values of these labels (a list with commas) with the
 * namespace of the policy's subject, or have others. Its selector selects nothing for whoever does not know them.
 */
export const sameLabelsAnnotation = 'margay.io/same-labels';
export const notSameLabelsAnnotation = 'margay.io/not-same-labels';

/** Annotation of a policy that was converted where nobody could be told what is wrong: its problems, as JSON. */
export const problemsAnnotation = 'margay.io/problems';

/** A field of Calico's that would restrict a rule in a way that no rule here can: refused, never left out. */
const refused = (why: string) => z.undefined({ error: `expected no such field: ${why}` }).optional();

const serviceAccounts = z.strictObject({
  names: z.array(z.string().min(1)).optional(),
  selector: z.string().optional(),
});

/** A Kubernetes Service by name, of the policy's namespace unless told. */
const services = z.strictObject({ name: z.string().min(1), namespace: z.string().optional() });

export const entityRule = z.strictObject({
  nets: z.array(z.string()).optional(),
  notNets: z.array(z.string()).optional(),
  selector: z.string().optional(),
  notSelector: z.string().optional(),
  namespaceSelector: z.string().optional(),
  ports: z.array(port).optional(),
  notPorts: z.array(port).optional(),
  serviceAccounts: serviceAccounts.optional(),
  services: services.optional(),
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
  http: refused('rules cannot match HTTP requests, which are inside a connection'),
  metadata: z.looseObject({ annotations: z.record(z.string(), z.string()).optional() }).optional(),
});

export const networkPolicySpec = z.looseObject({
  tier: z.string().optional(),
  order: z.number().optional(),
  selector: z.string().optional(),
  types: z.array(z.enum(['Ingress', 'Egress'])).optional(),
  ingress: z.array(policyRule).optional(),
  egress: z.array(policyRule).optional(),
  serviceAccountSelector: z.string().optional(),
});

/**
 * `applyOnForward`, `doNotTrack` and `preDNAT` say what happens at host endpoints. The last two are of these alone; any
 * other policy pods are subject to as well.
 */
const globalFields = networkPolicySpec.extend({
  namespaceSelector: z.string().optional(),
  applyOnForward: z.boolean().optional(),
  doNotTrack: z.boolean().optional(),
  preDNAT: z.boolean().optional(),
});

/** What holds of policies that come before connection tracking, or before the destination is translated. */
function checkStage(
  { applyOnForward, doNotTrack, preDNAT, types, egress }: z.output<typeof globalFields>,
  { addIssue }: { readonly addIssue: (issue: { code: 'custom'; message: string; path: string[] }) => void },
): void {
  const expect = (holds: boolean, field: string, message: string) =>
    holds || addIssue({ code: 'custom', message: `expected ${message}`, path: [field] });
  const early = doNotTrack || preDNAT;
  expect(!(doNotTrack && preDNAT), 'preDNAT', 'only one of doNotTrack and preDNAT to be true');
  expect(!early || applyOnForward === true, 'applyOnForward', 'true beside doNotTrack or preDNAT');
  expect(!preDNAT || !egress?.length, 'egress', 'no egress rules beside preDNAT');
  expect(!preDNAT || !types?.includes('Egress'), 'types', 'no Egress beside preDNAT');
}

export const globalNetworkPolicySpec = globalFields.superRefine(checkStage);

/** What becomes of the policy of the same name once this is enforced: it is set to this, or deleted. */
const stagedAction = z.enum(['Set', 'Delete']).default('Set');

/** What is to be deleted is named, and not described. */
const onlyNamed = (spec: { readonly stagedAction: 'Set' | 'Delete' }) =>
  spec.stagedAction === 'Set' ||
  Object.entries(spec).every(([name, value]) => value === undefined || name === 'stagedAction' || name === 'tier');
const notOnlyNamed = { error: 'expected nothing but the tier beside Delete', path: ['stagedAction'] };

export const stagedNetworkPolicySpec = networkPolicySpec.extend({ stagedAction }).refine(onlyNamed, notOnlyNamed);
export const stagedGlobalNetworkPolicySpec = globalFields
  .extend({ stagedAction })
  .superRefine(checkStage)
  .refine(onlyNamed, notOnlyNamed);
/** In the words of `networking.k8s.io/v1`. */
export const stagedKubernetesNetworkPolicySpec = kubernetesPolicySpec
  .extend({ stagedAction })
  .refine(onlyNamed, notOnlyNamed);

export const tierSpec = z.looseObject({
  /** Lower goes first; equal ones by name. */
  order: z.number().default(1_000_000),
  /** What becomes of packets that policies of the tier apply to and no rule decides. */
  defaultAction: z.enum(['Deny', 'Pass']).default('Deny'),
});

export const networkSetSpec = z.looseObject({
  /** Prefixes, or addresses. */
  nets: z.array(z.string().refine(isNet, 'expected a prefix such as 10.0.0.0/8, or an address')).default([]),
});

export const profileSpec = z.looseObject({
  ingress: z.array(policyRule).optional(),
  egress: z.array(policyRule).optional(),
  labelsToApply: z.record(z.string(), z.string()).optional(),
});

function isNet(text: string): boolean {
  try {
    parseNet(text);
    return true;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/** A prefix or an address as a prefix, as network sets hold them. @throws InputError naming `field` */
export function parseNet(text: string, field = 'nets'): Cidr {
  return text.includes('/') ? parseCidr(text, field) : hostCidr(parseIp(text, field));
}

export type EntityRule = z.output<typeof entityRule>;
export type PolicyRule = z.output<typeof policyRule>;
