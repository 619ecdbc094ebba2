/*
 * A selector as a tree. Lists of `and` and `or` are as wide as written; depth is bounded by the parser, so the
 * recursive walks below cannot run out of stack.
 */

export type Node =
  | { readonly op: 'all' | 'global' }
  | { readonly op: 'has'; readonly label: string }
  | { readonly op: Comparison; readonly label: string; readonly value: string }
  | { readonly op: 'in' | 'not in'; readonly label: string; readonly values: readonly string[] }
  | { readonly op: 'not'; readonly operand: Node }
  | { readonly op: 'and' | 'or'; readonly operands: readonly Node[] };

export type Comparison = '==' | '!=' | 'contains' | 'starts with' | 'ends with';

/** Value of a label, undefined when it is absent. */
export type Lookup = (label: string) => string | undefined;

/** Whether labels satisfy the tree. Negative comparisons hold for an absent label. */
export function evaluate(node: Node, lookup: Lookup): boolean {
  switch (node.op) {
    case 'all':
    case 'global':
      return true;
    case 'has':
      return lookup(node.label) !== undefined;
    case '==':
      return lookup(node.label) === node.value;
    case '!=':
      return lookup(node.label) !== node.value;
    case 'contains':
      return lookup(node.label)?.includes(node.value) ?? false;
    case 'starts with':
      return lookup(node.label)?.startsWith(node.value) ?? false;
    case 'ends with':
      return lookup(node.label)?.endsWith(node.value) ?? false;
    case 'in':
    case 'not in': {
      const value = lookup(node.label);
      return (value !== undefined && node.values.includes(value)) === (node.op === 'in');
    }
    case 'not':
      return !evaluate(node.operand, lookup);
    case 'and':
      return node.operands.every((operand) => evaluate(operand, lookup));
    case 'or':
      return node.operands.some((operand) => evaluate(operand, lookup));
  }
}

/** Canonical text: double quotes, sorted sets, every `&&` and `||` group in parentheses. */
export function format(node: Node): string {
  switch (node.op) {
    case 'all':
    case 'global':
      return `${node.op}()`;
    case 'has':
      return `has(${node.label})`;
    case 'in':
    case 'not in':
      return `${node.label} ${node.op} {${node.values.map(quote).join(', ')}}`;
    case 'not':
      return `!${format(node.operand)}`;
    case 'and':
      return `(${node.operands.map(format).join(' && ')})`;
    case 'or':
      return `(${node.operands.map(format).join(' || ')})`;
    default:
      return `${node.label} ${node.op} ${quote(node.value)}`;
  }
}

function quote(value: string): string {
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

/** Sorted by the octets of UTF-8, each value once. */
export function setValues(values: Iterable<string>): string[] {
  return [...new Set(values)].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** The same tree with every label renamed and every `all()` and `global()` replaced. */
export function rewrite(node: Node, label: (name: string) => string, every: (op: 'all' | 'global') => Node): Node {
  switch (node.op) {
    case 'all':
    case 'global':
      return every(node.op);
    case 'not':
      return { op: 'not', operand: rewrite(node.operand, label, every) };
    case 'and':
    case 'or':
      return { op: node.op, operands: node.operands.map((operand) => rewrite(operand, label, every)) };
    default:
      return { ...node, label: label(node.label) };
  }
}

/**
 * Labels that must have one of the given values wherever the tree holds: what an index can look objects up by.
 * An empty list means that nothing matches.
 */
export function pins(node: Node): ReadonlyMap<string, readonly string[]> {
  switch (node.op) {
    case '==':
      return new Map([[node.label, [node.value]]]);
    case 'in':
      return new Map([[node.label, node.values]]);
    case 'and': {
      const all = new Map<string, readonly string[]>();
      for (const operand of node.operands) {
        for (const [label, values] of pins(operand)) {
          const before = all.get(label);
          all.set(label, before === undefined ? values : before.filter((value) => values.includes(value)));
        }
      }
      return all;
    }
    default:
      return new Map();
  }
}
