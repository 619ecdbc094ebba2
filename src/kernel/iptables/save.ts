import { isOurs, ourTarget } from './rules.ts';

/* What iptables-save says, reduced to what the planner needs: hashes in our chains, and our rules in others'. */

/** A rule in a chain of the kernel's or of other software: ours with its text, or another's (null). */
export type ForeignEntry = { readonly hash: string; readonly text: string } | null;

/** One table as it is in the kernel. */
export interface ActualTable {
  /** Our chains → the hash of each rule; empty text for a rule without one. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Other chains that hold rules of ours → all their rules in order. */
  readonly others: ReadonlyMap<string, readonly ForeignEntry[]>;
}

export const emptyTable: ActualTable = { chains: new Map(), others: new Map() };

/** Output of iptables-save, all tables → each table by name. Absent tables were never used. */
export function parseSave(text: string): Map<string, ActualTable> {
  const tables = new Map<string, ActualTable>();
  let chains = new Map<string, string[]>();
  let others = new Map<string, ForeignEntry[]>();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      chains = new Map();
      others = new Map();
      tables.set(line.slice(1).trim(), { chains, others });
    } else if (line.startsWith(':')) {
      const name = line.slice(1, line.indexOf(' '));
      if (isOurs(name)) chains.set(name, []);
      else others.set(name, []);
    } else if (line.startsWith('-A ')) readRule(line.slice(3), chains, others);
    else if (line === 'COMMIT') keepOnlyWithOurs(others);
  }
  return tables;
}

function readRule(rest: string, chains: Map<string, string[]>, others: Map<string, ForeignEntry[]>): void {
  const space = rest.indexOf(' ');
  const name = space < 0 ? rest : rest.slice(0, space);
  const rule = space < 0 ? '' : rest.slice(space + 1);
  const tag = /--comment "?cali:([\w-]{16})"?(?:\s|$)/.exec(rule)?.[1] ?? '';
  if (isOurs(name)) {
    append(chains, name, tag);
    return;
  }
  // A rule that jumps to a chain of ours is ours by that chain's name, even when somebody dropped its comment.
  append(others, name, tag !== '' || ourTarget(rule) !== undefined ? { hash: tag, text: rule } : null);
}

function append<T>(lists: Map<string, T[]>, name: string, item: T): void {
  const list = lists.get(name);
  if (list) list.push(item);
  else lists.set(name, [item]);
}

/** Ten thousand service rules of other software need not stay in memory. */
function keepOnlyWithOurs(others: Map<string, ForeignEntry[]>): void {
  for (const [name, entries] of others) if (entries.every((entry) => entry === null)) others.delete(name);
}
