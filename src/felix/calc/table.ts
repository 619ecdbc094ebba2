import type { DesiredSet, DesiredTable, RuleText } from '../../kernel/types.ts';

/** What policy makes of one family. */
export interface PolicyTables {
  /** The filter table. */
  readonly table: DesiredTable;
  /** Rules of host endpoints in tables that come before. */
  readonly early: { readonly raw: DesiredTable; readonly mangle: DesiredTable };
  readonly sets: ReadonlyMap<string, DesiredSet>;
}

/** Two sources' parts of one table: in a chain of both, the first one's rules come first; equal jumps stand once. */
export function joined(first: DesiredTable | undefined, second: DesiredTable): DesiredTable {
  if (!first || second.chains.size === 0) return first ?? second;
  return {
    chains: merged(first.chains, second.chains),
    insertions: merged(first.insertions, second.insertions, (rules) => [...new Set(rules)]),
  };
}

/** The table with other chains; in one that it has already, the other's rules come first. */
export function preceded(table: DesiredTable, chains: ReadonlyMap<string, readonly RuleText[]>): DesiredTable {
  const first = [...chains].filter(([, rules]) => rules.length > 0);
  if (first.length === 0) return table;
  const all = first.map(([name, rules]) => [name, [...rules, ...(table.chains.get(name) ?? [])]] as const);
  return { ...table, chains: new Map([...table.chains, ...all]) };
}

type Lists = ReadonlyMap<string, readonly RuleText[]>;

function merged(
  a: Lists,
  b: Lists,
  once: (rules: readonly RuleText[]) => readonly RuleText[] = (rules) => rules,
): Lists {
  const all = new Map(a);
  for (const [name, rules] of b) all.set(name, once([...(all.get(name) ?? []), ...rules]));
  return all;
}
