import { editChain } from './edit.ts';
import type { TaggedChain, TaggedRule, TaggedTable } from './rules.ts';
import type { ActualTable, ForeignEntry } from './save.ts';

/**
 * `edit` changes single lines (legacy keeps counters so); `rewrite` flushes and refills a changed chain, unless rules are
 * only put in between.
 */
export type Style = 'edit' | 'rewrite';

export interface TablePlan {
  /** Lines between `*table` and `COMMIT` of iptables-restore --noflush; none when all is as desired. */
  readonly lines: readonly string[];
  /** Chains created, changed or deleted, kernel chains included. */
  readonly changedChains: number;
  /** The table once the lines are in. */
  readonly after: ActualTable;
}

/**
 * Pure: what turns `actual` into `desired`. Chains exist before anything refers to them and go when nothing does any
 * more. In chains of others only rules of ours are touched, and by their text, never by number: other software may have
 * shifted them since they were read.
 */
export function planTable(desired: TaggedTable, actual: ActualTable, style: Style): TablePlan {
  const plan = { declare: [] as string[], rules: [] as string[], jumps: [] as string[], drop: [] as string[] };
  let changedChains = 0;
  for (const chain of desired.chains.values())
    if (planChain(chain, actual.chains.get(chain.name), style, plan)) changedChains++;
  for (const name of actual.chains.keys()) {
    if (desired.chains.has(name)) continue;
    plan.declare.push(declare(name));
    plan.drop.push(`-X ${name}`);
    changedChains++;
  }
  const others = new Map<string, readonly ForeignEntry[]>();
  for (const name of new Set([...actual.others.keys(), ...desired.insertions.keys(), ...desired.appendices.keys()])) {
    const wanted = { top: rulesOf(desired.insertions, name), end: rulesOf(desired.appendices, name) };
    const entries = actual.others.get(name) ?? [];
    if (!stands(entries, wanted)) {
      plan.jumps.push(...moveRules(name, entries, wanted));
      changedChains++;
    }
    if (wanted.top.length + wanted.end.length > 0) others.set(name, [...wanted.top, null, ...wanted.end]);
  }
  const chains = new Map([...desired.chains].map(([name, { hashes }]) => [name, hashes]));
  return {
    lines: [...plan.declare, ...plan.rules, ...plan.jumps, ...plan.drop],
    changedChains,
    after: { chains, others },
  };
}

interface Placed {
  readonly top: readonly TaggedRule[];
  readonly end: readonly TaggedRule[];
}

/** With --noflush this creates a chain, and empties one that is there. */
function declare(name: string): string {
  return `:${name} - [0:0]`;
}

function planChain(
  { name, rules, hashes }: TaggedChain,
  have: readonly string[] | undefined,
  style: Style,
  plan: { declare: string[]; rules: string[] },
): boolean {
  if (have === hashes) return false;
  if (have && have.length === rules.length && rules.every((rule, at) => rule.hash === have[at])) return false;
  if (have && (style === 'edit' || addsOnly(have, hashes))) plan.rules.push(...editChain(name, have, rules));
  else {
    plan.declare.push(declare(name));
    for (const rule of rules) plan.rules.push(`-A ${name} ${rule.text}`);
  }
  return true;
}

/** Whether some rules come in between, fewer than there are, and all others stay as they are. */
function addsOnly(have: readonly string[], want: readonly string[]): boolean {
  if (have.length === 0 || want.length > have.length * 2) return false;
  let at = 0;
  for (const hash of want) if (have[at] === hash) at++;
  return at === have.length;
}

/** Whether our rules are first and last as wanted, each once, and nowhere else. */
function stands(entries: readonly ForeignEntry[], { top, end }: Placed): boolean {
  const ours = entries.filter((entry) => entry !== null).length;
  return (
    ours === top.length + end.length &&
    top.every((rule, at) => entries[at]?.hash === rule.hash) &&
    end.every((rule, at) => entries[entries.length - end.length + at]?.hash === rule.hash)
  );
}

function moveRules(chain: string, entries: readonly ForeignEntry[], { top, end }: Placed): string[] {
  return [
    ...entries.flatMap((entry) => (entry === null ? [] : `-D ${chain} ${entry.text}`)),
    ...top.map((rule, at) => `-I ${chain} ${at + 1} ${rule.text}`),
    ...end.map((rule) => `-A ${chain} ${rule.text}`),
  ];
}

function rulesOf(chains: ReadonlyMap<string, TaggedChain>, name: string): readonly TaggedRule[] {
  return chains.get(name)?.rules ?? [];
}
