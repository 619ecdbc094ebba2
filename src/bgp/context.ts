import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Family, Ip } from '../model/address.ts';
import type { Bfd } from './bfd/agent.ts';
import type { Monitor } from './bmp/monitor.ts';
import type { DeviceOf } from './filters.ts';
import type { AttributeInterner } from './intern.ts';
import type { Limits } from './limits.ts';
import type { NodeAddress } from './settings.ts';
import type { RouteTable } from './table.ts';
import type { Turns } from './turns.ts';

/** What the speaker gives each of its peers. */
export interface SpeakerContext {
  readonly asn: number;
  readonly identifier: Ip;
  /** Of this node as a route reflector. RFC 4456 §7. */
  readonly clusterId: Ip;
  readonly addresses: readonly NodeAddress[];
  readonly tables: Readonly<Record<Family, RouteTable>>;
  /** When the tables are worked on. */
  readonly turns: Turns;
  readonly interner: AttributeInterner;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly limits: Limits;
  readonly bfd: Bfd;
  readonly monitor: Monitor;
  /** Devices that routes lead through, for filters that ask. */
  readonly deviceOf: DeviceOf;
  /** This process took over from an earlier one, and the kernel kept the routes. */
  readonly restarted: boolean;
  /** Still so: path selection is put off. */
  readonly restarting: () => boolean;
  /** The peer has told its whole table of the family, or none can be waited for. */
  readonly settled: (peer: string, family: Family) => void;
}
