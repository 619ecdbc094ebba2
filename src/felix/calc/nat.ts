import type { DesiredSet, DesiredTable, RuleText } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf } from '../../model/address.ts';

/** What outgoing NAT needs to know of a pool. */
export interface PoolNat {
  readonly cidr: Cidr;
  readonly natOutgoing: boolean;
}

/** Destinations that outgoing NAT leaves alone. */
export type NatExclusions = 'pools' | 'poolsAndHosts';

/** How packets of pools with natOutgoing leave. */
export interface NatOptions {
  readonly exclusions: NatExclusions;
  /** IPv4 address that they leave with; empty: one of the device that they leave by. */
  readonly address: string;
  /** Range of ports that they leave with, `1024:65535`; empty: as the kernel chooses. */
  readonly ports: string;
  /** Device that they leave by, as iptables has it (`eth+`); by others they keep the pod's address. Empty: any. */
  readonly device: string;
}

export const usualNat: NatOptions = { exclusions: 'pools', address: '', ports: '', device: '' };

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
  options: NatOptions = usualNat,
): DesiredTable {
  const outgoing = natSets(pools, family).length > 0;
  if (!outgoing && more.length === 0) return { chains: new Map(), insertions: new Map() };
  const by = options.device === '' ? '' : `-o ${options.device} `;
  const sources = `${by}-m set --match-set ${setName(family, 'masq-ipam-pools')} src`;
  const excluded = options.exclusions === 'pools' ? ['all-ipam-pools'] : ['all-ipam-pools', 'all-hosts-net'];
  const outside = excluded.map((id) => `-m set ! --match-set ${setName(family, id)} dst`).join(' ');
  return {
    chains: new Map([
      ['cali-POSTROUTING', [...more, ...(outgoing ? ['-j cali-nat-outgoing'] : [])]],
      ...(outgoing ? [['cali-nat-outgoing', translations(family, `${sources} ${outside}`, options)] as const] : []),
    ]),
    insertions: new Map([['POSTROUTING', ['-j cali-POSTROUTING']]]),
  };
}

/** Only protocols with ports take a range of them. */
function translations(family: Family, match: string, { address, ports }: NatOptions): RuleText[] {
  const range = ports.replace(':', '-');
  const fixed = family === 4 && address !== '';
  const target = fixed ? `SNAT --to-source ${address}` : 'MASQUERADE';
  const withPorts = fixed ? `${target}:${range}` : `${target} --to-ports ${range}`;
  return [
    ...(ports === '' ? [] : ['tcp', 'udp'].map((protocol): RuleText => `-p ${protocol} ${match} -j ${withPorts}`)),
    `${match} -j ${target}`,
  ];
}
