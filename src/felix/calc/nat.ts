import type { DesiredSet, DesiredTable, RuleText } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf } from '../../model/address.ts';

/** What outgoing NAT needs to know of a pool. */
export interface PoolNat {
  readonly cidr: Cidr;
  readonly natOutgoing: boolean;
}

/** Destinations that outgoing NAT leaves alone. */
export type NatExclusions = 'pools' | 'poolsAndHosts';

/** Kernel name of a set that every node has: `cali40masq-ipam-pools`. */
function setName(family: Family, id: string): string {
  return `cali${family}0${id}`;
}

/**
 * `masq-ipam-pools` holds the pools with natOutgoing, `all-ipam-pools` all of them (Calico's names). Neither exists
 * when no pool of the family wants NAT.
 */
export function natSets(pools: readonly PoolNat[], family: Family): DesiredSet[] {
  const own = pools.filter(({ cidr }) => familyOf(cidr) === family);
  const masquerade = own.filter(({ natOutgoing }) => natOutgoing);
  if (masquerade.length === 0) return [];
  const set = (id: string, members: readonly PoolNat[]): DesiredSet => ({
    name: setName(family, id),
    type: 'hash:net',
    family,
    members: new Set(members.map(({ cidr }) => cidr)),
  });
  return [set('masq-ipam-pools', masquerade), set('all-ipam-pools', own)];
}

/**
 * Packets from a pool with natOutgoing to anything outside every pool leave with the node's address, unless they go to a
 * node and those are excluded, too.
 * @param more rules that stand before
 */
export function natTable(
  pools: readonly PoolNat[],
  family: Family,
  more: readonly RuleText[] = [],
  exclusions: NatExclusions = 'pools',
): DesiredTable {
  const outgoing = natSets(pools, family).length > 0;
  if (!outgoing && more.length === 0) return { chains: new Map(), insertions: new Map() };
  const sources = `-m set --match-set ${setName(family, 'masq-ipam-pools')} src`;
  const excluded = exclusions === 'pools' ? ['all-ipam-pools'] : ['all-ipam-pools', 'all-hosts-net'];
  const outside = excluded.map((id) => `-m set ! --match-set ${setName(family, id)} dst`).join(' ');
  return {
    chains: new Map([
      ['cali-POSTROUTING', [...more, ...(outgoing ? ['-j cali-nat-outgoing'] : [])]],
      ...(outgoing ? [['cali-nat-outgoing', [`${sources} ${outside} -j MASQUERADE`]] as const] : []),
    ]),
    insertions: new Map([['POSTROUTING', ['-j cali-POSTROUTING']]]),
  };
}
