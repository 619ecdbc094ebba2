import { InputError } from '../base/errors.ts';
import type { NetworkPolicy, Profile } from '../model/kinds.ts';
import { kubernetesName } from '../model/kubernetes.ts';
import type { PolicyRule } from '../model/policy.ts';
import { both, equals, namespaceLabel, parseSelector, type Selector } from '../model/selector.ts';
import type { PolicyRules, Rule } from './ir.ts';
import { compileMatch, type RuleContext } from './match.ts';
import type { SetRequest } from './members.ts';

/*
 * One policy or profile → ordered rules and the IP sets they need. What is wrong in it never admits more than its
 * author wrote: an allow that cannot be read is left out, and from a deny or pass that cannot be read everything is
 * denied.
 */

export interface CompiledRules {
  readonly rules: PolicyRules;
  readonly requests: readonly SetRequest[];
  readonly problems: readonly InputError[];
}

export interface CompiledPolicy extends CompiledRules {
  readonly tier: string;
  /** Ascending; policies without an order have Infinity. */
  readonly order: number;
  /** Breaks ties between equal orders. */
  readonly sortKey: string;
  readonly selector: Selector;
  readonly ingress: boolean;
  readonly egress: boolean;
}

export interface TierInfo {
  readonly order: number;
  readonly defaultAction: 'deny' | 'pass';
}

/** Tiers that exist in every cluster. */
export const tiers: ReadonlyMap<string, TierInfo> = new Map([
  ['kube-admin', { order: 1_000, defaultAction: 'pass' }],
  ['default', { order: 1_000_000, defaultAction: 'deny' }],
  ['kube-baseline', { order: 10_000_000, defaultAction: 'pass' }],
]);

export function compilePolicy({ metadata, spec }: NetworkPolicy): CompiledPolicy {
  const { name, namespace = '' } = metadata;
  const where = `NetworkPolicy(${namespace}/${name}).spec`;
  const problems: InputError[] = [];
  const own = tolerate(problems, () => parseSelector(spec.selector ?? '', `${where}.selector`));
  const tier = spec.tier ?? 'default';
  if (!tiers.has(tier)) problems.push(new InputError(`${where}.tier`, tier, `one of ${[...tiers.keys()].join(', ')}`));
  const sound = problems.length === 0;
  const inNamespace = equals(namespaceLabel, namespace);
  const selector = own && spec.selector ? both(own, inNamespace) : inNamespace;
  const compile = (direction: RuleContext['direction']) =>
    compileRules(spec[direction] ?? [], `${where}.${direction}`, { namespace, direction, target: selector }, sound);
  const ingress = compile('ingress');
  const egress = compile('egress');
  const types = spec.types ?? defaultTypes(spec);
  return {
    tier: tiers.has(tier) ? tier : 'default',
    order: tiers.has(tier) ? (spec.order ?? Number.POSITIVE_INFINITY) : Number.NEGATIVE_INFINITY,
    sortKey: sortKey(name, namespace),
    selector,
    ingress: types.includes('Ingress'),
    egress: types.includes('Egress'),
    rules: {
      name: `${namespace}/${name}`,
      title: titleOf(name, namespace),
      ingress: ingress.rules,
      egress: egress.rules,
    },
    requests: [...ingress.requests, ...egress.requests],
    problems: [...problems, ...ingress.problems, ...egress.problems],
  };
}

/**
 * Stands for a policy whose stored value cannot be read: all pods of its namespace are isolated both ways. A policy
 * of Kubernetes only ever allows, so that others may still allow beside it; any other may have denied, so nothing may.
 */
export function unreadablePolicy(name: string, namespace: string): CompiledPolicy {
  const allowsOnly = name.startsWith('knp.default.');
  const rules: Rule[] = allowsOnly ? [] : [{ action: 'deny', match: {}, index: 0 }];
  return {
    tier: 'default',
    order: allowsOnly ? 1000 : Number.NEGATIVE_INFINITY,
    sortKey: sortKey(name, namespace),
    selector: equals(namespaceLabel, namespace),
    ingress: true,
    egress: true,
    rules: { name: `${namespace}/${name}`, title: titleOf(name, namespace), ingress: rules, egress: rules },
    requests: [],
    problems: [],
  };
}

export function compileProfile({ metadata: { name }, spec }: Profile): CompiledRules {
  const where = `Profile(${name}).spec`;
  const compile = (direction: RuleContext['direction']) =>
    compileRules(spec[direction] ?? [], `${where}.${direction}`, { direction, target: parseSelector('all()') }, true);
  const ingress = compile('ingress');
  const egress = compile('egress');
  const kubernetes = kubernetesName('Profile', name);
  const title = kubernetes
    ? `${kubernetes.kind} ${kubernetes.namespace ? `${kubernetes.namespace}/` : ''}${kubernetes.name}`
    : `Profile ${name}`;
  return {
    rules: { name, title, ingress: ingress.rules, egress: egress.rules },
    requests: [...ingress.requests, ...egress.requests],
    problems: [...ingress.problems, ...egress.problems],
  };
}

const actions = { Allow: 'allow', Deny: 'deny', Log: 'log', Pass: 'pass' } as const;

/** @param sound whether it is known what the rules apply to, and in which tier */
function compileRules(list: readonly PolicyRule[], field: string, context: RuleContext, sound: boolean) {
  const rules: Rule[] = [];
  const requests: SetRequest[] = [];
  const problems: InputError[] = [];
  for (const [index, rule] of list.entries()) {
    const compiled = tolerate(problems, () => compileMatch(rule, `${field}[${index}]`, context));
    if (sound && compiled) {
      rules.push({ action: actions[rule.action], match: compiled.match, index });
      requests.push(...compiled.requests);
    } else if (rule.action === 'Deny' || rule.action === 'Pass') {
      rules.push({ action: 'deny', match: {}, index });
      break;
    }
  }
  return { rules, requests, problems };
}

/** The directions that a policy's rules show; with none, ingress (Calico's own kind, unlike Kubernetes'). */
function defaultTypes({ ingress, egress }: NetworkPolicy['spec']): ('Ingress' | 'Egress')[] {
  if (!egress?.length) return ['Ingress'];
  return ingress?.length ? ['Ingress', 'Egress'] : ['Egress'];
}

function sortKey(name: string, namespace: string): string {
  return `${name}/${namespace}/NetworkPolicy`;
}

function titleOf(name: string, namespace: string): string {
  const kubernetes = kubernetesName('NetworkPolicy', name);
  return kubernetes
    ? `NetworkPolicy ${namespace}/${kubernetes.name}`
    : `NetworkPolicy.projectcalico.org ${namespace}/${name}`;
}

function tolerate<T>(problems: InputError[], compute: () => T): T | undefined {
  try {
    return compute();
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    problems.push(thrown);
    return undefined;
  }
}
