import { closeSync } from 'node:fs';
import type { Family, Ip } from '../../model/address.ts';
import { openNamespace } from '../namespace-file.ts';
import { mainTable } from '../route.ts';
import {
  type AddressOnLink,
  type Forwarding,
  KernelError,
  type KernelEvent,
  type Link,
  type LinkChange,
  type Neighbour,
  type Netlink,
  type PackedRoutes,
  type Queue,
  type Route,
  type RouteFailure,
  type RouteReading,
  type Shaper,
  type VethRequest,
  type VxlanRequest,
} from '../types.ts';
import { listNeighbours, readAddress, writeAddress, writeAddressQuery, writeNeighbour } from './address.ts';
import { Aside } from './aside.ts';
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELQDISC,
  RTM_GETADDR,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWQDISC,
  RTM_NEWROUTE,
} from './constants.ts';
import { linkQuery, readLink, vethRequest, writeIpip, writeLinkChange, writeLinkRemoval, writeVxlan } from './link.ts';
import { LinkIndexes } from './link-indexes.ts';
import { LinkNames } from './link-names.ts';
import type { MessageWriter } from './message.ts';
import { startMonitor, usualLimits } from './monitor.ts';
import { listQueues, writeShaper, writeShaperRemoval } from './queue.ts';
import type { Request } from './requests.ts';
import { writeRoute } from './route.ts';
import { deleteRoutes, packedList, type Refusal, setRoutes } from './route-batch.ts';
import { RouteDump } from './route-dump.ts';
import { NETLINK_ROUTE, NetlinkSocket } from './socket.ts';
import { listForwarding, writeForwarding } from './vxlan.ts';
import type { Wire } from './wire.ts';

/** LOOPBACK_IFINDEX of include/net/net_namespace.h: every namespace's first device. */
const loopbackIndex = 1;

/**
 * rtnetlink of the current network namespace; stays there wherever the thread goes.
 * @param options.aside with a second socket, by which `addVethAside` and `deleteLinkAside` work beside everything else
 * @throws KernelError
 */
export function openNetlink({ aside = false }: { readonly aside?: boolean } = {}): Netlink {
  return new RtNetlink(new NetlinkSocket(), aside ? new Aside(new NetlinkSocket()) : undefined);
}

/** rtnetlink over another wire than the kernel's. */
export function netlinkOver(wire: Wire): Netlink {
  return new RtNetlink(new NetlinkSocket(NETLINK_ROUTE, wire));
}

class RtNetlink implements Netlink {
  /** Family and table → what was last read of it. */
  readonly #dumps = new Map<string, RouteDump>();
  readonly #names: LinkNames;
  readonly #indexes: LinkIndexes;
  /** Inside `together`: what is to be sent, and name → index of the devices asked for. */
  #batch: { readonly requests: Request[]; readonly indexByName: Map<string, number> } | undefined;

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly aside?: Aside,
  ) {
    this.#names = new LinkNames(socket);
    this.#indexes = new LinkIndexes(socket);
  }

  links(): Link[] {
    return this.#indexes.list();
  }

  together(action: () => void, known: ReadonlyMap<string, number> = new Map()): void {
    const batch = { requests: [], indexByName: new Map([['lo', loopbackIndex], ...known]) };
    this.#batch = batch;
    try {
      action();
    } finally {
      this.#batch = undefined;
    }
    const failure = this.socket.batch(batch.requests).find((one) => one !== undefined);
    if (failure) throw failure;
  }

  link(name: string): Link | undefined {
    return this.#indexes.find(name);
  }

  addresses(family?: Family): AddressOnLink[] {
    const found = this.socket.dump({
      operation: 'list addresses',
      type: RTM_GETADDR,
      body: (w) => writeAddressQuery(w, family),
    });
    const { nameOf } = this.#names;
    return found.flatMap((payload) => {
      const address = readAddress(payload);
      const device = address && nameOf(address.index);
      return address && device !== undefined ? [{ ...address, device }] : [];
    });
  }

  routes(family?: Family, table = mainTable): Route[] {
    return (family === undefined ? [4 as const, 6 as const] : [family]).flatMap((one) =>
      new RouteDump(this.socket, one, table).read(this.#names.nameOf).routes(),
    );
  }

  readRoutes(family: Family, table: number): RouteReading {
    const key = `${family} ${table}`;
    const dump = this.#dumps.get(key) ?? new RouteDump(this.socket, family, table);
    this.#dumps.set(key, dump);
    return dump.read(this.#names.nameOf);
  }

  neighbours(device: string): Neighbour[] {
    const operation = `list neighbours of ${device}`;
    const index = this.#indexOf(operation, device);
    return listNeighbours(this.socket, operation, index).map((neighbour) => ({ device, ...neighbour }));
  }

  addVeth(request: VethRequest): void {
    const namespace = openNamespace(request.netns);
    try {
      this.socket.request(vethRequest(request, namespace));
    } finally {
      closeSync(namespace);
    }
  }

  async addVethAside(request: VethRequest): Promise<Link> {
    const { aside } = this;
    const { hostName } = request;
    const query = linkQuery(hostName);
    if (!aside) {
      this.addVeth(request);
      return this.#indexes.get(query.operation, hostName);
    }
    const namespace = openNamespace(request.netns);
    try {
      const made = vethRequest(request, namespace);
      const link = readLink(await aside.get(made, query));
      this.#indexes.made(link);
      return link;
    } finally {
      closeSync(namespace);
    }
  }

  addVxlan(request: VxlanRequest): Link {
    const operation = `add VXLAN device ${request.name}`;
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    this.socket.request({ operation, type: RTM_NEWLINK, flags, body: (w) => writeVxlan(w, request) });
    return this.#indexes.get(`get link ${request.name}`, request.name);
  }

  addIpip(name: string): Link {
    const operation = `add IPIP device ${name}`;
    // The module, loaded by this very request, may bring the device: then it is there, which is as good.
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    const [refused] = this.socket.batch([{ operation, type: RTM_NEWLINK, flags, body: (w) => writeIpip(w, name) }]);
    const link = refused && refused.code !== 'EEXIST' ? undefined : this.link(name);
    if (link?.kind === 'ipip') return link;
    throw refused ?? new KernelError(operation, 'ENODEV', `no device ${name}`);
  }

  deleteLink(name: string): boolean {
    return !this.#absent(['ENODEV'], linkRemoval(name));
  }

  async deleteLinkAside(name: string): Promise<boolean> {
    const { aside } = this;
    if (!aside) return this.deleteLink(name);
    try {
      await aside.change(linkRemoval(name));
      return true;
    } catch (thrown) {
      if (thrown instanceof KernelError && thrown.code === 'ENODEV') return false;
      throw thrown;
    }
  }

  setLink(name: string, change: LinkChange): void {
    const operation = `set link ${name}`;
    const index = this.#indexOf(operation, name);
    this.#request({ operation, type: RTM_NEWLINK, body: (w) => writeLinkChange(w, index, change) });
    if (change.name !== undefined) this.#names.forget();
  }

  addAddress(device: string, cidr: string, options: { noDad?: boolean } = {}): void {
    const operation = `add address ${cidr} to ${device}`;
    const index = this.#indexOf(operation, device);
    this.#request({
      operation,
      type: RTM_NEWADDR,
      flags: NLM_F_CREATE | NLM_F_REPLACE,
      body: (w) => writeAddress(w, index, cidr, options.noDad ?? false),
    });
  }

  deleteAddress(device: string, cidr: string): void {
    const operation = `delete address ${cidr} from ${device}`;
    const index = this.#indexOf(operation, device);
    const body: Request['body'] = (w) => writeAddress(w, index, cidr, false);
    this.#absent(['EADDRNOTAVAIL'], { operation, type: RTM_DELADDR, body });
  }

  setNeighbour({ device, address, mac }: { device: string; address: Ip; mac: string }): void {
    const operation = `set neighbour ${address} on ${device}`;
    const index = this.#indexOf(operation, device);
    this.#request({
      operation,
      type: RTM_NEWNEIGH,
      flags: NLM_F_CREATE | NLM_F_REPLACE,
      body: (w) => writeNeighbour(w, index, { address, mac }),
    });
  }

  setNeighbours(device: string, neighbours: readonly { readonly address: Ip; readonly mac: string }[]): void {
    if (neighbours.length === 0) return;
    const index = this.#indexOf(`set neighbours on ${device}`, device);
    this.#setAll(neighbours, (w, one) => writeNeighbour(w, index, one), `set neighbour on ${device}`);
  }

  deleteNeighbour({ device, address }: { device: string; address: Ip }): void {
    const operation = `delete neighbour ${address} from ${device}`;
    const index = this.#indexOf(operation, device);
    this.#absent(['ENOENT'], { operation, type: RTM_DELNEIGH, body: (w) => writeNeighbour(w, index, { address }) });
  }

  forwarding(device: string): Forwarding[] {
    const operation = `list forwarding of ${device}`;
    const index = this.#indexOf(operation, device);
    return listForwarding(this.socket, operation, index);
  }

  setForwarding({ device, ...entry }: { device: string; mac: string; destination: Ip }): void {
    const operation = `set forwarding of ${entry.mac} on ${device}`;
    const index = this.#indexOf(operation, device);
    const flags = NLM_F_CREATE | NLM_F_REPLACE;
    this.socket.request({ operation, type: RTM_NEWNEIGH, flags, body: (w) => writeForwarding(w, index, entry) });
  }

  setForwardings(device: string, entries: readonly { readonly mac: string; readonly destination: Ip }[]): void {
    if (entries.length === 0) return;
    const index = this.#indexOf(`set forwarding on ${device}`, device);
    this.#setAll(entries, (w, one) => writeForwarding(w, index, one), `set forwarding on ${device}`);
  }

  deleteForwarding({ device, ...entry }: { device: string; mac: string; destination: Ip }): void {
    const operation = `delete forwarding of ${entry.mac} from ${device}`;
    const index = this.#indexOf(operation, device);
    this.#absent(['ENOENT'], { operation, type: RTM_DELNEIGH, body: (w) => writeForwarding(w, index, entry) });
  }

  queues(): Queue[] {
    return listQueues(this.socket, this.#names.nameOf);
  }

  setShaper(shaper: Shaper): void {
    const operation = `set shaper of ${shaper.device}`;
    const index = this.#indexOf(operation, shaper.device);
    const flags = NLM_F_CREATE | NLM_F_REPLACE;
    this.socket.request({ operation, type: RTM_NEWQDISC, flags, body: (w) => writeShaper(w, index, shaper) });
  }

  deleteShaper(device: string): void {
    const operation = `delete shaper of ${device}`;
    const link = this.link(device);
    if (!link) return;
    this.#absent(['ENOENT', 'EINVAL'], {
      operation,
      type: RTM_DELQDISC,
      body: (w) => writeShaperRemoval(w, link.index),
    });
  }

  applyRoutes(upserts: readonly Route[], deletes: readonly Route[]): RouteFailure[] {
    if (this.#batch) return this.#queueRoutes(this.#batch.requests, upserts);
    // Additions first: a route that moves to another metric leaves no gap.
    const refused = this.writeRoutes('set', packedList(upserts)).map(
      ({ at, cause }) => [nth(upserts, at), cause] as const,
    );
    const kept = this.writeRoutes('delete', packedList(deletes)).map(
      ({ at, cause }) => [nth(deletes, at), cause] as const,
    );
    return [...refused, ...kept].map(([route, cause]) => ({ route, cause }));
  }

  writeRoutes(what: 'set' | 'delete', routes: PackedRoutes): Refusal[] {
    if (what === 'delete') return deleteRoutes(this.socket, routes);
    return setRoutes(this.socket, routes, (devices) => this.#indexes.ofRoutes(devices));
  }

  monitor(
    onEvent: (event: KernelEvent) => void,
    signal: AbortSignal,
    { othersRoutes = false }: { readonly othersRoutes?: boolean } = {},
  ): { ready: Promise<void> } {
    return startMonitor(this.socket.fd, this, onEvent, signal, {
      ...usualLimits,
      ...(othersRoutes && { quietPort: this.socket.port }),
    });
  }

  close(): void {
    this.socket.close();
    this.aside?.close();
  }

  /** RTM_NEWNEIGH for each. @throws KernelError, the first */
  #setAll<T>(list: readonly T[], body: (w: MessageWriter, one: T) => void, operation: string): void {
    const failures = this.socket.batchOf({
      count: list.length,
      type: RTM_NEWNEIGH,
      flags: NLM_F_CREATE | NLM_F_REPLACE,
      body: (w, at) => body(w, nth(list, at)),
      operation: () => operation,
    });
    const failure = failures.find((one) => one !== undefined);
    if (failure) throw failure;
  }

  /** @throws KernelError (`ENODEV`) */
  #indexOf(operation: string, name: string): number {
    const known = this.#batch?.indexByName.get(name);
    if (known !== undefined) return known;
    const { index } = this.#indexes.get(operation, name);
    this.#batch?.indexByName.set(name, index);
    return index;
  }

  /** @throws KernelError for a device that is not there */
  #queueRoutes(requests: Request[], routes: readonly Route[]): [] {
    for (const route of routes) {
      const operation = `set route ${route.destination}`;
      for (const { device } of route.nextHops) if (device !== undefined) this.#indexOf(operation, device);
      const indexes = this.#batch?.indexByName;
      const body: Request['body'] = (w) => writeRoute(w, route, (device) => indexes?.get(device));
      requests.push({ operation, type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, body });
    }
    return [];
  }

  #request(request: Request): void {
    if (this.#batch) this.#batch.requests.push(request);
    else this.socket.request(request);
  }

  /** Sends a removal; true when the kernel said that there was nothing to remove. */
  #absent(codes: readonly string[], request: Request): boolean {
    const [failure] = this.socket.batch([request]);
    if (!failure) return false;
    if (codes.includes(failure.code)) return true;
    throw failure;
  }
}

function linkRemoval(name: string): Request {
  return { operation: `delete link ${name}`, type: RTM_DELLINK, body: (w) => writeLinkRemoval(w, name) };
}

/** @throws RangeError beyond the end, where nobody asks */
function nth<T>(list: readonly T[], at: number): T {
  const found = list[at];
  if (found === undefined) throw new RangeError(`${at} of ${list.length}`);
  return found;
}
