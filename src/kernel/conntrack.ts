import { setImmediate } from 'node:timers/promises';
import { EnvironmentError } from '../base/errors.ts';
import { type Family, familyOf, type Ip } from '../model/address.ts';
import {
  type Connection,
  type Flow,
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_GET,
  IPCTNL_MSG_CT_GET_STATS,
  places,
  readConnection,
  readEntries,
  readFlow,
  writeDeletion,
  writeFilteredQuery,
  writeQuery,
  writeStatisticsQuery,
} from './ctnetlink.ts';
import type { Request } from './rtnetlink/requests.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './rtnetlink/socket.ts';
import { Serial } from './serial.ts';
import { KernelError } from './types.ts';

/**
 * A kernel-side filter knows one place of one address, so each address costs four walks of the kernel's table, whose
 * buckets are walked however few flows they hold. That pays from about so many flows for each address on: on a
 * busy machine a walk of 262144 buckets took 7 to 25 ms, and a flow 5 to 6 µs to read here.
 */
const flowsPerAddress = 4096;
/** Reading and deleting let others run after so many milliseconds. */
const sliceMilliseconds = 5;
/** Deletions in one send. */
const deletions = 128;

/** Connection tracking of one network namespace: the one that the object was opened in. */
export interface Conntrack {
  /**
   * Deletes all flows of the addresses, wherever they stand in them, so that nobody who gets one later receives them.
   * None is success, and so is one that ended meanwhile. Calls wait for each other; other work goes on between slices.
   * @returns how many were deleted. @throws KernelError after all were tried
   */
  deleteFlows(addresses: readonly Ip[]): Promise<number>;
  /**
   * Deletes the flows of the default zone that match. @returns how many. @throws KernelError after all were tried
   */
  deleteMatching(families: readonly Family[], matches: (connection: Connection) => boolean): Promise<number>;
  close(): void;
}

export interface ConntrackOptions {
  /** Up to so many flows in the table for each address, all are read; beyond, the kernel looks for the addresses. */
  readonly flowsPerAddress?: number;
}

/** @throws EnvironmentError without CAP_NET_ADMIN or a kernel that has ctnetlink; KernelError */
export function openConntrack(options: ConntrackOptions = {}): Conntrack {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    countEntries(socket);
  } catch (cause) {
    socket.close();
    // nfnetlink's answer for a subsystem that is not there and cannot be loaded.
    if (!(cause instanceof KernelError) || cause.code !== 'EINVAL') throw cause;
    throw new EnvironmentError('the kernel offers no connection tracking', 'run: modprobe nf_conntrack_netlink', {
      cause,
    });
  }
  return new NetlinkConntrack(socket, options.flowsPerAddress ?? flowsPerAddress);
}

class NetlinkConntrack implements Conntrack {
  readonly #serial = new Serial();

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly flowsPerAddress: number,
  ) {}

  close(): void {
    this.socket.close();
  }

  deleteFlows(addresses: readonly Ip[]): Promise<number> {
    return this.#serial.run(() => this.#delete(new Set(addresses)));
  }

  async #delete(addresses: ReadonlySet<Ip>): Promise<number> {
    if (addresses.size === 0) return 0;
    const entries = countEntries(this.socket);
    if (entries === 0) return 0;
    const all = entries <= this.flowsPerAddress * addresses.size;
    const slice = new Slice();
    // By identifier: a flow has an address in more than one place, and a table that grows may give one twice.
    const found = new Map<string, Flow>();
    for (const query of all ? familyQueries(addresses) : [...addresses].flatMap(addressQueries))
      await this.#find(query, addresses, found, slice);
    return this.#deleteAll([...found.values()]);
  }

  deleteMatching(families: readonly Family[], matches: (connection: Connection) => boolean): Promise<number> {
    return this.#serial.run(async () => {
      const slice = new Slice();
      const found = new Map<string, Flow>();
      for (const family of families)
        for (const payload of this.socket.stream(familyQuery(family))) {
          const flow = readFlow(payload);
          if (flow && !flow.zone && matches(readConnection(payload, flow))) found.set(keyOf(flow), kept(flow));
          if (slice.over) await slice.next();
        }
      return this.#deleteAll([...found.values()]);
    });
  }

  async #find(query: Request, addresses: ReadonlySet<Ip>, found: Map<string, Flow>, slice: Slice): Promise<void> {
    for (const payload of this.socket.stream(query)) {
      const flow = readFlow(payload);
      if (flow?.addresses.some((address) => addresses.has(address))) found.set(keyOf(flow), kept(flow));
      if (slice.over) await slice.next();
    }
    if (slice.over) await slice.next();
  }

  async #deleteAll(flows: readonly Flow[]): Promise<number> {
    let count = 0;
    let failure: KernelError | undefined;
    for (let start = 0; start < flows.length; start += deletions) {
      if (start > 0) await setImmediate();
      for (const failed of this.socket.batch(flows.slice(start, start + deletions).map(deletion))) {
        if (!failed) count++;
        else if (failed.code !== 'ENOENT') failure ??= failed;
      }
    }
    if (failure) throw failure;
    return count;
  }
}

/** A stretch of work after which others run. */
class Slice {
  #started = performance.now();

  get over(): boolean {
    return performance.now() - this.#started >= sliceMilliseconds;
  }

  async next(): Promise<void> {
    await setImmediate();
    this.#started = performance.now();
  }
}

/** Flows of both families in the namespace. @throws KernelError */
function countEntries(socket: NetlinkSocket): number {
  return readEntries(
    socket.get({ operation: 'count conntrack entries', type: IPCTNL_MSG_CT_GET_STATS, body: writeStatisticsQuery }),
  );
}

function familyQueries(addresses: ReadonlySet<Ip>): Request[] {
  const families = new Set<Family>([...addresses].map(familyOf));
  return [...families].map(familyQuery);
}

function familyQuery(family: Family): Request {
  return {
    operation: `list IPv${family} conntrack entries`,
    type: IPCTNL_MSG_CT_GET,
    body: (w) => writeQuery(w, family),
  };
}

function addressQueries(address: Ip): Request[] {
  return places.map((place) => ({
    operation: `list conntrack entries with ${address} as ${place.direction} ${place.side}`,
    type: IPCTNL_MSG_CT_GET,
    body: (w) => writeFilteredQuery(w, address, place),
  }));
}

function deletion(flow: Flow): Request {
  const [source, destination] = flow.addresses;
  return {
    operation: `delete conntrack entry ${source} → ${destination}`,
    type: IPCTNL_MSG_CT_DELETE,
    body: (w) => writeDeletion(w, flow),
  };
}

function keyOf({ id, tuple }: Flow): string {
  return Buffer.concat([id, tuple]).toString('latin1');
}

/** The same, no longer a view of the socket's buffer. */
function kept(flow: Flow): Flow {
  const { tuple, id, zone } = flow;
  return { ...flow, tuple: tuple.slice(), id: id.slice(), ...(zone && { zone: zone.slice() }) };
}
