import { InputError } from '../base/errors.ts';
import type { Profile } from '../model/kinds.ts';
import { kubernetesName } from '../model/kubernetes.ts';
import { type PolicyRule, ruleIndexAnnotation, ruleNameAnnotation } from '../model/policy.ts';
import { both, namespaceSelector, parseSelector, type Selector } from '../model/selector.ts';
import type { EarlyStage, PolicyRules, Rule } from './ir.ts';
import { compileMatch, type RuleContext } from './match.ts';
import type { SetRequest } from './members.ts';
import { type AnyPolicy, defaultTypes, policyName, policyTitle, scopeSelector, sortKey } from './scope.ts';
import { builtInTiers } from './tiers.ts';
import { toldProblems } from './told.ts';

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
  /** Whether it applies to what a host forwards, too. */
  readonly forward: boolean;
}

/**
 * @param tierExists a policy in a tier that does not exist isolates what it selects; the built-in ones always do
 */
export function compilePolicy(
  { kind, metadata, spec }: AnyPolicy,
  tierExists: (tier: string) => boolean = (tier) => builtInTiers.has(tier),
): CompiledPolicy {
  const { name, namespace } = metadata;
  const where = `${kind}(${policyName(name, namespace)}).spec`;
  const problems: InputError[] = [];
  const tier = spec.tier ?? 'default';
  const known = tierExists(tier);
  if (!known) problems.push(new InputError(`${where}.tier`, tier, 'a tier that exists'));
  const scope = scopeSelector({ ...spec, namespace }, where, (part) => tolerate(problems, part));
  const stage: EarlyStage | undefined = spec['doNotTrack'] ? 'untracked' : spec['preDNAT'] ? 'preDnat' : undefined;
  const selector = stage ? both(scope, hostsOnly) : scope;
  const sound = problems.length === 0;
  const compile = (direction: RuleContext['direction']) =>
    compileRules(
      spec[direction] ?? [],
      `${where}.${direction}`,
      { ...(namespace !== undefined && { namespace }), direction, target: selector },
      sound,
    );
  const ingress = compile('ingress');
  const egress = compile('egress');
  const types = spec.types?.length ? spec.types : defaultTypes(spec);
  return {
    tier: known ? tier : 'default',
    order: known ? (spec.order ?? Number.POSITIVE_INFINITY) : Number.NEGATIVE_INFINITY,
    sortKey: sortKey(kind, name, namespace),
    selector,
    ingress: types.includes('Ingress'),
    egress: types.includes('Egress'),
    forward: spec['applyOnForward'] === true,
    rules: {
      name: policyName(name, namespace),
      title: policyTitle(kind, name, namespace),
      ...(stage && { stage }),
      ingress: ingress.rules,
      egress: egress.rules,
    },
    requests: [...ingress.requests, ...egress.requests],
    problems: [...problems, ...toldProblems(metadata.annotations), ...ingress.problems, ...egress.problems],
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

/** Every pod has a namespace, and no host endpoint can claim one. */
export const hostsOnly = namespaceSelector(parseSelector('global()'));

const actions = { Allow: 'allow', Deny: 'deny', Log: 'log', Pass: 'pass' } as const;

/** @param sound whether it is known what the rules apply to, and in which tier */
function compileRules(list: readonly PolicyRule[], field: string, context: RuleContext, sound: boolean) {
  const rules: Rule[] = [];
  const requests: SetRequest[] = [];
  const problems: InputError[] = [];
  for (const [index, rule] of list.entries()) {
    const compiled = tolerate(problems, () => compileMatch(rule, `${field}[${index}]`, context));
    if (sound && compiled) {
      rules.push({ action: actions[rule.action], match: compiled.match, ...placeOf(rule, index) });
      requests.push(...compiled.requests);
    } else if (rule.action === 'Deny' || rule.action === 'Pass') {
      rules.push({ action: 'deny', match: {}, ...placeOf(rule, index) });
      break;
    }
  }
  return { rules, requests, problems };
}

/** Where a rule was written, and its name there; converted rules tell it in annotations. */
function placeOf({ metadata }: PolicyRule, at: number): Pick<Rule, 'index' | 'name'> {
  const annotations = new Map(Object.entries(metadata?.annotations ?? {}));
  const index = annotations.get(ruleIndexAnnotation);
  const name = annotations.get(ruleNameAnnotation);
  return {
    index: index !== undefined && /^\d{1,4}$/.test(index) ? Number(index) : at,
    ...(name !== undefined && { name }),
  };
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
