import type { Launch } from '../kernel/command.ts';
import { type Backend, savedRules } from '../kernel/iptables/backend.ts';
import type { DesiredTable, Iptables, TableName } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';

const nothing: DesiredTable = { chains: new Map(), insertions: new Map() };

/**
 * Takes away what an agent left in the backend that is no longer used: its packets would be filtered twice, the second
 * time by rules that nobody keeps. Only tables that hold chains of ours are touched, as naming a table creates it.
 * To be called when the rules of the present backend stand. Without its programs there is nothing to be done.
 * @returns chains that went, and kernel chains that lost a rule of ours
 * @throws IptablesError, InputError
 */
export async function sweepOtherBackend(
  present: Backend,
  families: readonly Family[],
  driverOf: (family: Family, backend: Backend) => Iptables,
  launch: Launch = {},
): Promise<number> {
  const other = present === 'nft' ? 'legacy' : 'nft';
  let changed = 0;
  for (const family of families) {
    const tables = tablesWithOurs((await savedRules(family, other, launch)) ?? '');
    if (tables.length === 0) continue;
    const empty = new Map(tables.map((table) => [table, nothing]));
    changed += (await driverOf(family, other).apply(empty)).changedChains;
  }
  return changed;
}

/** Tables of a save in which some chain begins `cali`. */
function tablesWithOurs(saved: string): TableName[] {
  return (['raw', 'mangle', 'nat', 'filter'] as const).filter((table) => {
    const start = saved.indexOf(`*${table}\n`);
    return start >= 0 && /^:cali/m.test(saved.slice(start, saved.indexOf('\nCOMMIT', start)));
  });
}
