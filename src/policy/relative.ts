import { notSameLabelsAnnotation, type PolicyRule, sameLabelsAnnotation } from '../model/policy.ts';
import { both, equals, hashId, namespacePrefix, Selector } from '../model/selector.ts';
import type { CompiledPolicy } from './compile.ts';
import type { LabelMap } from './labels.ts';
import type { AnyPolicy } from './scope.ts';

/*
 * Policies whose rules mean namespaces that have, or have not, the labels of the subject's own. For each combination of
 * values that the namespaces of local endpoints have, such a policy becomes one that selects these alone, with the values
 * written out; combinations come and go with the endpoints.
 */

/** Values of the labels that count, in the order of `relationKeys`; undefined where a namespace lacks one. */
type Values = readonly (string | undefined)[];

/** The labels of namespaces by whose values the rules of a policy differ; none for most policies. */
export function relationKeys({ spec }: AnyPolicy): readonly string[] {
  const found = [...(spec.ingress ?? []), ...(spec.egress ?? [])].flatMap((rule) => relationOf(rule)?.keys ?? []);
  return [...new Set(found)].sort();
}

/** The policy as it is for endpoints whose namespaces have these values. */
export function related<P extends AnyPolicy>(policy: P, keys: readonly string[], values: Values): P {
  const valueFor = new Map(keys.map((key, i) => [key, values[i]]));
  const { ingress, egress } = policy.spec;
  const spec = {
    ...policy.spec,
    ...(ingress && { ingress: ingress.map((rule) => writtenOut(rule, 'source', valueFor)) }),
    ...(egress && { egress: egress.map((rule) => writtenOut(rule, 'destination', valueFor)) }),
  };
  return { ...policy, spec };
}

/** What was compiled of `related`, for the endpoints with these values alone. */
export function restricted(compiled: CompiledPolicy, keys: readonly string[], values: Values): CompiledPolicy {
  const terms = keys.map((key, i) => {
    const [label, value] = [namespacePrefix + key, values[i]];
    return value === undefined ? new Selector({ op: 'not', operand: { op: 'has', label } }) : equals(label, value);
  });
  const name = `${compiled.rules.name}/${hashId('', JSON.stringify([keys, values]))}`;
  return { ...compiled, selector: [compiled.selector, ...terms].reduce(both), rules: { ...compiled.rules, name } };
}

interface Relation {
  readonly same: boolean;
  readonly keys: readonly string[];
}

function relationOf({ metadata }: PolicyRule): Relation | undefined {
  const annotations = new Map(Object.entries(metadata?.annotations ?? {}));
  for (const [annotation, same] of [
    [sameLabelsAnnotation, true],
    [notSameLabelsAnnotation, false],
  ] as const) {
    const text = annotations.get(annotation);
    if (text) return { same, keys: text.split(',') };
  }
  return undefined;
}

/** Namespaces must have all the labels: with the same values, or with at least one that differs. */
function writtenOut(
  rule: PolicyRule,
  end: 'source' | 'destination',
  values: ReadonlyMap<string, string | undefined>,
): PolicyRule {
  const relation = relationOf(rule);
  if (!relation) return rule;
  const equal = relation.keys.map((key) => {
    const value = values.get(key);
    return value === undefined ? none : `${key} == ${quoted(value)}`;
  });
  const there = relation.keys.map((key) => `has(${key})`).join(' && ');
  const namespaceSelector = relation.same ? equal.join(' && ') : `${there} && !(${equal.join(' && ')})`;
  return { ...rule, [end]: { ...rule[end], namespaceSelector } };
}

/** No namespace. */
const none = '!all()';

/** A value with both quotes cannot be written: the selector is then refused, and its rule closed. */
function quoted(value: string): string {
  return value.includes("'") ? `"${value}"` : `'${value}'`;
}

interface Entry {
  readonly keys: readonly string[];
  /** Combination of values as text → how many local endpoints have it. */
  readonly uses: Map<string, number>;
}

/** Keeps for each policy of this kind the combinations that local endpoints have. */
export class RelativePolicies {
  readonly #entries = new Map<string, Entry>();
  readonly #endpoints = new Map<string, LabelMap>();

  /**
   * @param put called with the key of a policy and a combination that some endpoint has now
   * @param drop called with one that none has any more
   */
  constructor(
    private readonly put: (policy: string, values: Values) => void,
    private readonly drop: (policy: string, values: Values) => void,
  ) {}

  /** A policy that is there under the key is replaced: `put` is called for every combination again. */
  set(policy: string, keys: readonly string[]): void {
    this.delete(policy);
    if (keys.length === 0) return;
    const entry: Entry = { keys, uses: new Map() };
    this.#entries.set(policy, entry);
    for (const labels of this.#endpoints.values()) this.#count(policy, entry, labels, 1);
  }

  delete(policy: string): void {
    const entry = this.#entries.get(policy);
    this.#entries.delete(policy);
    for (const text of entry?.uses.keys() ?? []) this.drop(policy, parsed(text));
  }

  setEndpoint(endpoint: string, labels: LabelMap): void {
    const before = this.#endpoints.get(endpoint);
    this.#endpoints.set(endpoint, labels);
    for (const [policy, entry] of this.#entries) {
      this.#count(policy, entry, labels, 1);
      if (before) this.#count(policy, entry, before, -1);
    }
  }

  deleteEndpoint(endpoint: string): void {
    const before = this.#endpoints.get(endpoint);
    this.#endpoints.delete(endpoint);
    if (before) for (const [policy, entry] of this.#entries) this.#count(policy, entry, before, -1);
  }

  #count(policy: string, { keys, uses }: Entry, labels: LabelMap, change: 1 | -1): void {
    const text = JSON.stringify(keys.map((key) => labels.get(namespacePrefix + key) ?? null));
    const before = uses.get(text) ?? 0;
    const now = before + change;
    if (now > 0) uses.set(text, now);
    else uses.delete(text);
    if (before === 0) this.put(policy, parsed(text));
    else if (now === 0) this.drop(policy, parsed(text));
  }
}

function parsed(text: string): Values {
  return (JSON.parse(text) as (string | null)[]).map((value) => value ?? undefined);
}
