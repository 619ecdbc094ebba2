import { createHash } from 'node:crypto';
import { InputError } from '../base/errors.ts';
import { Parser } from './selector/parse.ts';
import { evaluate, format, type Lookup, type Node, pins, rewrite } from './selector/tree.ts';

/** Labels of an object. Keys such as `constructor` and `__proto__` are labels like any other. */
export type Labels = Readonly<Record<string, string>> | ReadonlyMap<string, string>;

/** A parsed selector. Two are the same when their `canonical` (or `id`) is. */
export class Selector {
  /** Calico's canonical text. */
  readonly canonical: string;
  #id: string | undefined;
  #pins: ReadonlyMap<string, readonly string[]> | undefined;

  constructor(readonly node: Node) {
    this.canonical = format(node);
  }

  /** `s:` and the unpadded base64url SHA-224 of `s:` + canonical text: Calico's name of the IP set. */
  get id(): string {
    this.#id ??= hashId('s:', this.canonical);
    return this.#id;
  }

  /** Labels that must have one of these values for the selector to match, for indexes. */
  get pins(): ReadonlyMap<string, readonly string[]> {
    this.#pins ??= pins(this.node);
    return this.#pins;
  }

  matches(labels: Labels): boolean {
    return evaluate(this.node, lookupOf(labels));
  }

  toString(): string {
    return this.canonical;
  }
}

/**
 * Parses Calico's selector language; empty text is `all()`.
 * @param field what an error names, for example `spec.selector`
 * @throws InputError with the position of the first fault
 */
export function parseSelector(text: string, field = 'selector'): Selector {
  if (typeof text !== 'string') throw new InputError(field, text, 'a selector');
  return new Selector(new Parser(text, field).parse());
}

/** `a && b`; one alone stays itself. */
export function both(a: Selector, b: Selector): Selector {
  return new Selector({ op: 'and', operands: [a.node, b.node] });
}

/** `label == "value"`. */
export function equals(label: string, value: string): Selector {
  return new Selector({ op: '==', label, value });
}

/** Label that tells the namespace of a workload endpoint or network set; absent on global objects. */
export const namespaceLabel = 'projectcalico.org/namespace';
/** Before a namespace's labels where a workload inherits them. */
export const namespacePrefix = 'pcns.';

/**
 * A namespaceSelector as a selector of workload labels: labels prefixed `pcns.`, `all()` any object that is in a
 * namespace, `global()` those in none.
 */
export function namespaceSelector(selector: Selector): Selector {
  const namespaced: Node = { op: 'has', label: namespaceLabel };
  return new Selector(
    rewrite(
      selector.node,
      (label) => namespacePrefix + label,
      (op) => (op === 'all' ? namespaced : { op: 'not', operand: namespaced }),
    ),
  );
}

/** Label that names the service account of a workload endpoint. */
export const serviceAccountLabel = 'projectcalico.org/serviceaccount';

/** A selector of service accounts as one of workload labels: labels prefixed `pcsa.`, `all()` those that have any. */
export function serviceAccountSelector(selector: Selector): Selector {
  const any: Node = { op: 'has', label: serviceAccountLabel };
  return new Selector(
    rewrite(
      selector.node,
      (label) => `pcsa.${label}`,
      (op) => (op === 'all' ? any : { op: 'not', operand: any }),
    ),
  );
}

/**
 * Label of nodes where a rule's end can be one. Selectors that demand it reach nodes only, all others never do, whatever
 * labels a pod claims. Calico's agents select nothing by it.
 */
export const kindLabel = 'margay.io/kind';
export const nodeKind = 'Node';
export const nodeKindTerm = `${kindLabel} == '${nodeKind}'`;

/** `label in {values}`. */
export function among(label: string, values: readonly string[]): Selector {
  return new Selector({ op: 'in', label, values: [...new Set(values)].toSorted() });
}

/** `prefix` + unpadded base64url(SHA-224(`prefix` + text)). */
export function hashId(prefix: string, text: string): string {
  return (
    prefix +
    createHash('sha224')
      .update(prefix + text)
      .digest('base64url')
  );
}

function lookupOf(labels: Labels): Lookup {
  if (labels instanceof Map) return (label) => labels.get(label);
  const record = labels as Readonly<Record<string, string>>;
  return (label) => (Object.hasOwn(record, label) ? record[label] : undefined);
}
