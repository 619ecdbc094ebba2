import type { DesiredSet, DesiredTable, TableName } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import type { LocalEndpoint } from './endpoints.ts';
import { isLimited, limitChains } from './limits.ts';
import { type NatOptions, natSets, natTable, type PoolNat, usualNat } from './nat.ts';
import type { PolicySource } from './policy-source.ts';
import { isRawEndpoint, rawTable } from './raw.ts';
import type { RemoteBlocks } from './remote.ts';
import type { ServiceLoops } from './service-loops.ts';
import { joined, type PolicyTables, preceded } from './table.ts';

/** What iptables and IP sets should be; identity tells whether anything changed. */
export interface DesiredFirewall {
  readonly tables: ReadonlyMap<Family, ReadonlyMap<TableName, DesiredTable>>;
  readonly sets: ReadonlyMap<string, DesiredSet>;
}

/** Whose rules meet in the tables. */
interface Sources {
  readonly families: readonly Family[];
  readonly interfacePrefix: string;
  readonly policy: PolicySource;
  readonly remote: RemoteBlocks;
  readonly services: ServiceLoops;
  /** Of this node, by key. */
  readonly endpoints: ReadonlyMap<string, LocalEndpoint>;
}

/**
 * Tables and sets out of all that has rules: policy, outgoing NAT, tunnels, endpoints that wish for something, service
 * addresses. Only what changed is made anew.
 */
export class Firewall {
  /** By key. */
  readonly #pools = new Map<string, PoolNat>();
  #natOptions: NatOptions = usualNat;
  /** What does not depend on policy. */
  #nat: DesiredFirewall | undefined;
  /** What was made last, of which tables of policy, and of which version of the tunnels and services. */
  #made: DesiredFirewall | undefined;
  #filters: ReadonlyMap<Family, PolicyTables> = new Map();
  #version = '';

  constructor(private readonly sources: Sources) {}

  /** @param pool undefined: it is gone */
  pool(key: string, pool: PoolNat | undefined): void {
    if (pool) this.#pools.set(key, pool);
    else this.#pools.delete(key);
    this.#nat = undefined;
  }

  configureNat(options: NatOptions): void {
    if (JSON.stringify(options) !== JSON.stringify(this.#natOptions)) this.#nat = undefined;
    this.#natOptions = options;
  }

  /** An endpoint was one thing and is another; either may be absent. */
  endpointChanged(...forms: readonly (LocalEndpoint | undefined)[]): void {
    if (forms.some((one) => one && (isRawEndpoint(one) || isLimited(one)))) this.#nat = undefined;
  }

  /**
   * Tables and sets of all families. The same object again as long as nothing changed.
   * @param standing tunnel devices in the kernel: one that is no longer wanted stays guarded until it is down
   */
  desired(standing: ReadonlySet<string>): DesiredFirewall {
    const { families, policy, remote, services } = this.sources;
    const version = [remote.version, services.version, ...[...standing].sort()].join();
    const filters = families.map((family) => [family, policy.filter(family)] as const);
    const nat = (version === this.#version ? this.#nat : undefined) ?? this.#natFirewall(standing);
    const unchanged = nat === this.#nat && version === this.#version;
    this.#nat = nat;
    if (this.#made && unchanged && filters.every(([family, filter]) => this.#filters.get(family) === filter))
      return this.#made;
    const tables = new Map(
      filters.map(([family, filter]) => [family, this.#tables(family, nat, filter, unchanged, standing)]),
    );
    this.#filters = new Map(filters);
    this.#version = version;
    const sets = new Map([...nat.sets, ...filters.flatMap(([, filter]) => [...filter.sets])]);
    this.#made = { tables, sets };
    return this.#made;
  }

  /** The family's tables, and the ones before when they hold the same. */
  #tables(
    family: Family,
    nat: DesiredFirewall,
    filter: PolicyTables,
    natUnchanged: boolean,
    standing: ReadonlySet<string>,
  ): ReadonlyMap<TableName, DesiredTable> {
    const before = this.#made?.tables.get(family);
    const last = this.#filters.get(family);
    if (before && natUnchanged && last?.table === filter.table && last.early === filter.early) return before;
    const fixed = new Map(nat.tables.get(family));
    const ofFamily = ({ addresses }: LocalEndpoint) => addresses.some((address) => familyOf(address) === family);
    const limited = this.#endpointsThat((one) => isLimited(one) && ofFamily(one));
    const limits = limitChains(limited, this.sources.interfacePrefix);
    const filtered = preceded(this.sources.services.guarded(filter.table, family), limits);
    return new Map([
      ...fixed,
      ['raw', joined(fixed.get('raw'), filter.early.raw)],
      ['mangle', filter.early.mangle],
      // Before any chain of policy.
      ['filter', preceded(filtered, this.sources.remote.rules(family, standing))],
    ]);
  }

  /** Raw and nat. */
  #natFirewall(standing: ReadonlySet<string>): DesiredFirewall {
    const { families, interfacePrefix, remote } = this.sources;
    const pools = [...this.#pools].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pool]) => pool);
    const tables = new Map<Family, ReadonlyMap<TableName, DesiredTable>>();
    const special = this.#endpointsThat(isRawEndpoint);
    for (const family of families)
      tables.set(
        family,
        new Map([
          ['raw', rawTable(family, interfacePrefix, special)],
          ['nat', natTable(pools, family, remote.natRules(family), this.#natOptions)],
        ]),
      );
    const sets = families.flatMap((family) => {
      const own = natSets(pools, family);
      const hosts = own.length > 0 && this.#natOptions.exclusions === 'poolsAndHosts';
      return [...own, ...remote.sets(family, standing, hosts)];
    });
    return { tables, sets: new Map(sets.map((set) => [set.name, set])) };
  }

  /** By device. */
  #endpointsThat(are: (endpoint: LocalEndpoint) => boolean): LocalEndpoint[] {
    const found = [...this.sources.endpoints.values()].filter(are);
    return found.sort((a, b) => (a.interfaceName < b.interfaceName ? -1 : 1));
  }
}
