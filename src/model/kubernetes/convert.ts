import { type EntityRule, type PolicyRule, ruleIndexAnnotation, ruleNameAnnotation } from '../policy.ts';
import type { LabelSelector, NetworkPolicySpec, PolicyPeer, PolicyPort, Requirement } from './schema.ts';

/** Only pods are meant by a Kubernetes selector, never network sets or host endpoints. */
const pods = "projectcalico.org/orchestrator == 'k8s'";

/** A Kubernetes policy in the terms of `projectcalico.org/v3`, every default written out. */
export function convertSpec(spec: NetworkPolicySpec): {
  tier: string;
  order: number;
  selector: string;
  types: ('Ingress' | 'Egress')[];
  ingress: PolicyRule[];
  egress: PolicyRule[];
} {
  const ingress = spec.ingress ?? [];
  const egress = spec.egress ?? [];
  const types = new Set(spec.policyTypes ?? []);
  if (types.size === 0) {
    types.add('Ingress');
    if (egress.length > 0) types.add('Egress');
  }
  return {
    tier: 'default',
    order: 1000,
    selector: podSelector(spec.podSelector ?? {}),
    types: [...types],
    ingress: placed(
      ingress.map(({ from, ports }) =>
        product(from, ports, (peer, { protocol, destination }) => ({
          action: 'Allow',
          ...protocol,
          ...(peer && { source: peer }),
          ...(destination && { destination }),
        })),
      ),
    ),
    egress: placed(
      egress.map(({ to, ports }) =>
        product(to, ports, (peer, { protocol, destination }) => ({
          action: 'Allow',
          ...protocol,
          ...((peer || destination) && { destination: { ...peer, ...destination } }),
        })),
      ),
    ),
  };
}

/** The rules that stand for each one as written, in one list; a rule that moved tells where it was written. */
function placed(groups: readonly (readonly PolicyRule[])[]): PolicyRule[] {
  const list: PolicyRule[] = [];
  for (const [index, rules] of groups.entries())
    for (const rule of rules) list.push(annotated(rule, undefined, index, list.length));
  return list;
}

/** The rule with its name, and its place as written where several rules stand for one. */
export function annotated(rule: PolicyRule, name: string | null | undefined, index: number, at: number): PolicyRule {
  const annotations = {
    ...rule.metadata?.annotations,
    ...(index !== at && { [ruleIndexAnnotation]: String(index) }),
    ...(name && { [ruleNameAnnotation]: name }),
  };
  return Object.keys(annotations).length > 0 ? { ...rule, metadata: { annotations } } : rule;
}

interface PortMatch {
  readonly protocol?: { readonly protocol: 'TCP' | 'UDP' | 'SCTP' };
  readonly destination?: EntityRule;
}

/** Peers × protocols; a missing or empty list admits all (networking.k8s.io/v1 NetworkPolicyIngressRule). */
function product(
  peers: readonly PolicyPeer[] | null | undefined,
  ports: readonly PolicyPort[] | null | undefined,
  rule: (peer: EntityRule | undefined, port: PortMatch) => PolicyRule,
): PolicyRule[] {
  const entities = peers && peers.length > 0 ? peers.map(entityOf) : [undefined];
  const matches = ports && ports.length > 0 ? portMatches(ports) : [{}];
  return entities.flatMap((entity) => matches.map((match) => rule(entity, match)));
}

/** One match a protocol; an entry without a port means all ports of its protocol, TCP unless said. */
function portMatches(ports: readonly PolicyPort[]): PortMatch[] {
  const byProtocol = Map.groupBy(ports, ({ protocol }) => protocol ?? 'TCP');
  return [...byProtocol].map(([protocol, entries]): PortMatch => {
    const numbers = entries.map(({ port, endPort }) =>
      typeof port === 'number' && endPort && endPort !== port ? `${port}:${endPort}` : (port ?? undefined),
    );
    const wanted = numbers.filter((port) => port !== undefined);
    if (wanted.length < numbers.length) return { protocol: { protocol } };
    return { protocol: { protocol }, destination: { ports: wanted } };
  });
}

function entityOf({ ipBlock, podSelector: pod, namespaceSelector }: PolicyPeer): EntityRule {
  if (ipBlock) {
    const except = ipBlock.except ?? [];
    return { nets: [ipBlock.cidr], ...(except.length > 0 && { notNets: except }) };
  }
  return {
    selector: podSelector(pod ?? {}),
    ...(namespaceSelector && { namespaceSelector: terms(namespaceSelector).join(' && ') || 'all()' }),
  };
}

/** Pods that a Kubernetes selector selects. */
export function podSelector(selector: LabelSelector): string {
  return [pods, ...terms(selector)].join(' && ');
}

/** Conditions of a label selector in Calico's language, in a fixed order. */
export function terms({ matchLabels, matchExpressions }: LabelSelector): string[] {
  const equal = Object.entries(matchLabels ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key} == '${value}'`);
  return [...equal, ...(matchExpressions ?? []).map(term)];
}

function term({ key, operator, values }: Requirement): string {
  const set = `{${(values ?? []).map((value) => `'${value}'`).join(', ')}}`;
  switch (operator) {
    case 'In':
      return `${key} in ${set}`;
    case 'NotIn':
      return `${key} not in ${set}`;
    case 'Exists':
      return `has(${key})`;
    case 'DoesNotExist':
      return `!has(${key})`;
  }
}
