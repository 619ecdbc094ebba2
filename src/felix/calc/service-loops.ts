import type { Event } from '../../datastore/store.ts';
import type { DesiredTable, RuleText } from '../../kernel/types.ts';
import { bits, type Cidr, cidrParts, contains, type Family, familyOf, parseCidr } from '../../model/address.ts';
import { isEntry } from './endpoints.ts';

/** What becomes of packets to a service address that nobody serves (FelixConfiguration serviceLoopPrevention). */
export type LoopPrevention = 'DROP' | 'REJECT' | 'DISABLED';

const forward = 'cali-FORWARD';
const block = 'cali-cidr-block';

/**
 * The ranges of service addresses that the nodes announce (BGPConfiguration `default`), and what follows of them here. A
 * packet to an address that kube-proxy did not translate would go back to the router that it came from, and round and
 * round: it ends in FORWARD. Routes to services that other nodes announce stay out of the kernel, since kube-proxy of
 * every node serves them.
 */
export class ServiceLoops {
  #ranges: readonly Cidr[] = [];
  #action: LoopPrevention = 'DROP';
  #version = 0;

  /** Another number: other rules. */
  get version(): number {
    return this.#version;
  }

  configure(action: LoopPrevention): void {
    if (action === this.#action) return;
    this.#action = action;
    this.#version++;
  }

  /** Takes BGPConfiguration events; one that is invalid leaves the last good form. @returns whether ranges changed */
  apply(event: Event): boolean {
    const key = event.op === 'delete' ? event.key : event.entry.key;
    if (event.op === 'invalid' || key.type !== 'BGPConfiguration' || key.name !== 'default') return false;
    const spec = event.op === 'set' && isEntry(event.entry, 'BGPConfiguration') ? event.entry.value.spec : undefined;
    const { serviceClusterIPs = [], serviceExternalIPs = [], serviceLoadBalancerIPs = [] } = spec ?? {};
    const named = [...serviceClusterIPs, ...serviceExternalIPs, ...serviceLoadBalancerIPs];
    const ranges = [...new Set(named.map(({ cidr }) => parseCidr(cidr)))].sort();
    if (ranges.join() === this.#ranges.join()) return false;
    this.#ranges = ranges;
    this.#version++;
    return true;
  }

  /** Whether a learnt route is to a service that kube-proxy serves here too. A range of one address is nobody's here. */
  covers(prefix: Cidr): boolean {
    return this.#ranges.some((range) => cidrParts(range).length < bits(familyOf(range)) && contains(range, prefix));
  }

  /** The filter table with the block last in FORWARD, after policy has marked what it allows. */
  guarded(table: DesiredTable, family: Family): DesiredTable {
    const rules = this.#rules(family);
    if (rules.length === 0) return table;
    const before = table.chains.get(forward) ?? [];
    return { ...table, chains: new Map([...table.chains, [forward, [...before, `-j ${block}`]], [block, rules]]) };
  }

  #rules(family: Family): RuleText[] {
    if (this.#action === 'DISABLED') return [];
    return this.#ranges
      .filter((range) => familyOf(range) === family)
      .map((range): RuleText => `-d ${range} -j ${this.#action}`);
  }
}
