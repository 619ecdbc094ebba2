import type { z } from 'zod';
import { type InputError, show } from '../../base/errors.ts';
import { firstIssue, type GlobalNetworkPolicy, issuesOf, parseResource } from '../kinds.ts';
import {
  type EntityRule,
  notSameLabelsAnnotation,
  type PolicyRule,
  problemsAnnotation,
  sameLabelsAnnotation,
} from '../policy.ts';
import { apiVersion } from '../resource.ts';
import { nodeKindTerm } from '../selector.ts';
import {
  type AdminPort,
  type AdminRule,
  adminNetworkPolicy,
  baselineAdminNetworkPolicy,
  type ClusterPeer,
  type ClusterProtocol,
  type ClusterRule,
  clusterNetworkPolicy,
  type PeerNamespaces,
  type Subject,
  subjectOf,
} from './cluster-policy-schema.ts';
import { annotated, podSelector, terms } from './convert.ts';
import type { LabelSelector } from './schema.ts';

/*
 * Policies of `policy.networking.k8s.io` as the GlobalNetworkPolicies that stand for them, in the tiers `kube-admin` and
 * `kube-baseline`, ordered by their priority.
 */

/** A policy as far as it can be understood; what cannot be is closed. */
export interface ClusterPolicyReading {
  readonly policy: GlobalNetworkPolicy;
  readonly problems: readonly InputError[];
}

interface Version {
  readonly schema: {
    readonly envelope: z.ZodType;
    readonly rules: { readonly ingress: z.ZodType; readonly egress: z.ZodType };
  };
  /** Before the name of what it is stored as. */
  readonly prefix: string;
  readonly portsOf: (rule: AdminRule | ClusterRule) => readonly PortMatch[] | undefined;
}

const versions = {
  AdminNetworkPolicy: { schema: adminNetworkPolicy, prefix: 'kanp.', portsOf: adminPorts },
  BaselineAdminNetworkPolicy: { schema: baselineAdminNetworkPolicy, prefix: 'kbanp.', portsOf: adminPorts },
  ClusterNetworkPolicy: { schema: clusterNetworkPolicy, prefix: 'kcnp.', portsOf: clusterPorts },
} as const satisfies Record<string, Version>;

export type ClusterPolicyKind = keyof typeof versions;

export function isClusterPolicyKind(kind: string): kind is ClusterPolicyKind {
  return Object.hasOwn(versions, kind);
}

/** There is one baseline of v1alpha1, without a priority: after all that have one. */
const baselineOrder = 1001;

/** `kcnp.web` → `{kind: 'ClusterNetworkPolicy', name: 'web'}`; undefined for a policy that did not come from there. */
export function clusterPolicyName(name: string): { readonly kind: string; readonly name: string } | undefined {
  const found = Object.entries(versions).find(([, { prefix }]) => name.startsWith(prefix));
  return found && { kind: found[0], name: name.slice(found[1].prefix.length) };
}

/**
 * Reads a policy whose rules may hold what this version does not know. As the API asks: a rule that cannot be understood
 * matches nothing when it accepts, and denies everything otherwise.
 * @throws InputError for what says where the policy applies: its name, tier, priority and subject
 */
export function readClusterPolicy(kind: ClusterPolicyKind, value: unknown): ClusterPolicyReading {
  const version: Version = versions[kind];
  const parsed = version.schema.envelope.safeParse(value);
  if (!parsed.success) throw firstIssue(parsed.error, value, kind);
  const { metadata, spec } = parsed.data as Envelope;
  const problems: InputError[] = [];
  const [ingress, egress] = (['ingress', 'egress'] as const).map((direction) =>
    readRules(spec[direction] ?? [], direction, `${kind}.spec.${direction}`, version, problems),
  );
  const name = version.prefix + metadata.name;
  const policy = parseResource('GlobalNetworkPolicy', {
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name },
    spec: {
      tier: kind === 'BaselineAdminNetworkPolicy' || spec.tier === 'Baseline' ? 'kube-baseline' : 'kube-admin',
      order: spec.priority ?? baselineOrder,
      ...subjectSelectors(spec.subject),
      types: typesOf(ingress ?? [], egress ?? []),
      ingress,
      egress,
    },
  });
  return { policy, problems };
}

/** The same, for whoever can still be told. @throws InputError for the first problem */
export function convertClusterPolicy(kind: ClusterPolicyKind, value: unknown): GlobalNetworkPolicy {
  const { policy, problems } = readClusterPolicy(kind, value);
  if (problems[0]) throw problems[0];
  return policy;
}

/** Problems that an annotation holds, and the characters of a value that is shown whole. */
const [mostProblems, mostValue] = [10, 100];

/** The same, for whoever watches policies that others write: what is wrong goes into an annotation. @throws as above */
export function tolerateClusterPolicy(kind: ClusterPolicyKind, value: unknown): GlobalNetworkPolicy {
  const { policy, problems } = readClusterPolicy(kind, value);
  if (problems.length === 0) return policy;
  const told = problems.slice(0, mostProblems).map(({ field, value: found, expected }) => {
    const short = (JSON.stringify(found)?.length ?? 0) <= mostValue;
    return { field, value: short ? found : show(found), expected };
  });
  const annotations = { [problemsAnnotation]: JSON.stringify(told) };
  return { ...policy, metadata: { ...policy.metadata, annotations } };
}

/** What a policy selects, where that can be read of a value that is otherwise wrong. */
export function clusterPolicyScope(value: unknown): { readonly selector: string; readonly namespaceSelector?: string } {
  const { subject } = ((value as { spec?: unknown } | null)?.spec ?? {}) as { readonly subject?: unknown };
  const parsed = subjectOf.safeParse(subject);
  return parsed.success ? subjectSelectors(parsed.data) : { selector: podSelector({}) };
}

/** Every problem of a policy. */
export function clusterPolicyProblems(kind: ClusterPolicyKind, value: unknown): InputError[] {
  const parsed = versions[kind].schema.envelope.safeParse(value);
  return parsed.success ? [...readClusterPolicy(kind, value).problems] : issuesOf(parsed.error, value, kind);
}

interface Envelope {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly tier?: 'Admin' | 'Baseline';
    readonly priority?: number;
    readonly subject: Subject;
    readonly ingress?: readonly unknown[] | null;
    readonly egress?: readonly unknown[] | null;
  };
}

/** A policy without rules in a direction has no effect there. */
function typesOf(ingress: readonly PolicyRule[], egress: readonly PolicyRule[]): ('Ingress' | 'Egress')[] {
  return egress.length === 0 ? ['Ingress'] : ingress.length === 0 ? ['Egress'] : ['Ingress', 'Egress'];
}

function subjectSelectors({ namespaces, pods }: Subject): { selector: string; namespaceSelector: string } {
  return {
    selector: podSelector(pods?.podSelector ?? {}),
    namespaceSelector: ofNamespaces(pods?.namespaceSelector ?? namespaces ?? {}),
  };
}

function ofNamespaces(selector: LabelSelector): string {
  return terms(selector).join(' && ') || 'all()';
}

function readRules(
  list: readonly unknown[],
  direction: 'ingress' | 'egress',
  field: string,
  { schema, portsOf }: Version,
  problems: InputError[],
): PolicyRule[] {
  const rules: PolicyRule[] = [];
  for (const [index, raw] of list.entries()) {
    const parsed = schema.rules[direction].safeParse(raw);
    if (parsed.success) {
      for (const rule of convertRule(parsed.data as AdminRule | ClusterRule, direction, portsOf))
        rules.push(annotated(rule, (parsed.data as AdminRule).name, index, rules.length));
      continue;
    }
    problems.push(...issuesOf(parsed.error, raw, `${field}[${index}]`));
    if (isAccept(raw)) continue;
    rules.push(annotated({ action: 'Deny' }, undefined, index, rules.length));
    break;
  }
  return rules;
}

/** Whether a rule that cannot be understood could only have let traffic through, under the name of either version. */
function isAccept(raw: unknown): boolean {
  const action = (raw as { action?: unknown } | null)?.action;
  return action === 'Allow' || action === 'Accept';
}

/** Peers × protocols. */
function convertRule(
  rule: AdminRule | ClusterRule,
  direction: 'ingress' | 'egress',
  portsOf: Version['portsOf'],
): PolicyRule[] {
  const action = rule.action === 'Accept' ? 'Allow' : rule.action;
  const peers: readonly ClusterPeer[] = 'from' in rule ? rule.from : rule.to;
  const matches = portsOf(rule) ?? [undefined];
  return peers.flatMap((peer) => {
    const entity = entityOf(peer);
    const annotations = relationOf(peer);
    return matches.map((match): PolicyRule => {
      const ports = match && { ports: [...match.ports] };
      return {
        action,
        ...(annotations && { metadata: { annotations } }),
        ...(match && { protocol: match.protocol }),
        ...(direction === 'egress'
          ? { destination: { ...entity, ...ports } }
          : { source: entity, ...(ports && { destination: ports }) }),
      };
    });
  });
}

function entityOf({ namespaces, pods, nodes, networks }: ClusterPeer): EntityRule {
  if (networks) return { nets: networks };
  if (nodes) return { selector: [nodeKindTerm, ...terms(nodes)].join(' && ') };
  return {
    selector: podSelector(pods?.podSelector ?? {}),
    namespaceSelector: pods?.namespaceSelector
      ? ofNamespaces(pods.namespaceSelector)
      : ofPeerNamespaces(pods?.namespaces ?? namespaces ?? {}),
  };
}

/** Namespaces that are told by the subject's labels are none for whoever does not know the annotations. */
function ofPeerNamespaces({ namespaceSelector, sameLabels, notSameLabels, ...selector }: PeerNamespaces): string {
  return sameLabels || notSameLabels ? '!all()' : ofNamespaces(namespaceSelector ?? selector);
}

function relationOf({ namespaces, pods }: ClusterPeer): Record<string, string> | undefined {
  const { sameLabels, notSameLabels } = pods?.namespaces ?? namespaces ?? {};
  if (sameLabels?.length) return { [sameLabelsAnnotation]: sameLabels.join(',') };
  return notSameLabels?.length ? { [notSameLabelsAnnotation]: notSameLabels.join(',') } : undefined;
}

interface PortMatch {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly ports: readonly (number | string)[];
}

/** A named port is of whatever protocol the pod says. */
const protocols = ['TCP', 'UDP', 'SCTP'] as const;

function adminPorts(rule: AdminRule | ClusterRule): readonly PortMatch[] | undefined {
  const ports = 'ports' in rule ? rule.ports : undefined;
  return ports ? merged(ports.flatMap(adminPort)) : undefined;
}

function adminPort({ portNumber, namedPort, portRange }: AdminPort): PortMatch[] {
  if (portNumber) return [{ protocol: portNumber.protocol, ports: [portNumber.port] }];
  if (portRange) return [{ protocol: portRange.protocol, ports: [`${portRange.start}:${portRange.end}`] }];
  return named(namedPort);
}

function clusterPorts(rule: AdminRule | ClusterRule): readonly PortMatch[] | undefined {
  const wanted = 'protocols' in rule ? rule.protocols : undefined;
  return wanted ? merged(wanted.flatMap(clusterProtocol)) : undefined;
}

function clusterProtocol({ destinationNamedPort, ...numbered }: ClusterProtocol): PortMatch[] {
  const found = protocols.flatMap((protocol): PortMatch[] => {
    const port = numbered[protocol.toLowerCase() as 'tcp' | 'udp' | 'sctp']?.destinationPort;
    if (!port) return [];
    return [{ protocol, ports: [port.range ? `${port.range.start}:${port.range.end}` : (port.number ?? 0)] }];
  });
  return found.length > 0 ? found : named(destinationNamedPort);
}

function named(name: string | null | undefined): PortMatch[] {
  return name ? protocols.map((protocol) => ({ protocol, ports: [name] })) : [];
}

/** One match a protocol. */
function merged(matches: readonly PortMatch[]): PortMatch[] {
  return [...Map.groupBy(matches, ({ protocol }) => protocol)].map(([protocol, group]) => ({
    protocol,
    ports: group.flatMap(({ ports }) => ports),
  }));
}
