import type { Entry, Event } from '../../datastore/store.ts';
import type { Cidr, Family } from '../../model/address.ts';
import type { PolicyTables } from './table.ts';

/** The filter table and its sets; the policy compiler's side of the calculation. */
export interface PolicySource {
  apply(event: Event): void;
  /** An endpoint of this node that will have addresses of these families; its entry has none yet. */
  announce(entry: Entry<'WorkloadEndpoint'>, families: readonly Family[]): void;
  /** Works out piece by piece what `filter` then has only to put together. */
  prepare(): Iterable<void>;
  /** The same objects again as long as nothing changed. */
  filter(family: Family): PolicyTables;
  /** The node's own devices with their addresses as prefixes. */
  setDevices(devices: ReadonlyMap<string, ReadonlySet<Cidr>>): void;
  problems(): readonly { readonly key: string; readonly error: Error }[];
  /** Takes over changed settings; `filter` gives new objects then. */
  configure(config: {
    readonly interfacePrefix: string;
    readonly endpointToHost: 'DROP' | 'RETURN' | 'ACCEPT';
    readonly vxlanPort: number;
    readonly establishedFlows: 'keep' | 'cut';
  }): void;
  /** Policies that local endpoints refer to. */
  activePolicies(): number;
}
