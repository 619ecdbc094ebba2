import { InputError } from '../base/errors.ts';
import {
  cidrOf,
  cidrParts,
  type Family,
  familyOf,
  type Ip,
  ipBytes,
  octets,
  parseIp,
  splitCidr,
} from '../model/address.ts';
import { canonicalRoute, formOf, routeKey, withDestination } from './route.ts';
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
  shaperHandle,
  type VethRequest,
  type VxlanRequest,
} from './types.ts';

/*
 * An in-memory kernel for unit tests and for rehearsals (src/cli/rehearsal.ts): it keeps what was applied, can be edited behind the driver's back, and fails
 * where the test says so. Semantics follow the real drivers, which the same contract tests hold.
 */

/** Several network namespaces of one pretended machine: a veth pair's peer is born in the one named. */
export class FakeKernel {
  readonly host: FakeNetlink = new FakeNetlink(this);
  readonly namespaces = new Map<string, FakeNetlink>();
  #nextIndex = 2;

  index(): number {
    return this.#nextIndex++;
  }

  /** Makes a namespace at `path`, as a container runtime would. */
  addNamespace(path: string): FakeNetlink {
    const namespace = new FakeNetlink(this);
    this.namespaces.set(path, namespace);
    return namespace;
  }

  /** What `openNetlinkIn` does. @throws InputError when there is none */
  open(path: string): FakeNetlink {
    const found = this.namespaces.get(path);
    if (!found) throw new InputError('netns', path, 'the path of a network namespace');
    return found;
  }
}

/** rtnetlink of one pretended namespace, `lo` included. */
export class FakeNetlink implements Netlink {
  readonly linkByName = new Map<string, Link>();
  readonly routeByKey = new Map<string, Route>();
  readonly addressList: AddressOnLink[] = [];
  readonly neighbourList: Neighbour[] = [];
  readonly forwardingList: (Forwarding & { readonly device: string })[] = [];
  readonly queueByDevice = new Map<string, Queue>();
  /** Sysctls as felix may record them; the fake does not interpret them. */
  readonly sysctls = new Map<string, string>();
  /** Every mutating call, in order, as text: `upsert 10.0.0.0/26`, `deleteLink cali0`. */
  readonly calls: string[] = [];
  /** Destinations (or link names) whose next operations fail with the code given, until removed. */
  readonly failures = new Map<string, string>();
  closed = false;
  readonly #listeners = new Set<(event: KernelEvent) => void>();
  readonly #lastRead = new Map<string, string>();
  /** Listeners that are not told of the routes that are set and deleted here. */
  readonly #quiet = new Set<(event: KernelEvent) => void>();
  readonly #peers = new Map<string, { readonly netlink: FakeNetlink; readonly name: string }>();

  constructor(private readonly kernel: FakeKernel = new FakeKernel()) {
    this.linkByName.set('lo', { index: 1, name: 'lo', mtu: 65536, up: true, mac: '00:00:00:00:00:00' });
  }

  together(action: () => void): void {
    action();
  }

  links(): Link[] {
    return [...this.linkByName.values()];
  }

  link(name: string): Link | undefined {
    return this.linkByName.get(name);
  }

  addresses(family?: Family): AddressOnLink[] {
    return this.addressList.filter((one) => family === undefined || familyOf(one.address) === family);
  }

  routes(family?: Family, table = 254): Route[] {
    return [...this.routeByKey.values()].filter(
      (route) => route.table === table && (family === undefined || familyOf(route.destination) === family),
    );
  }

  readRoutes(family: Family, table: number): RouteReading {
    const found = this.routes(family, table);
    const now = JSON.stringify(found);
    const key = `${family} ${table}`;
    const unchanged = this.#lastRead.get(key) === now;
    this.#lastRead.set(key, now);
    return {
      unchanged,
      routes: () => found,
      *runs() {
        for (const route of found) {
          const { address, length } = cidrParts(route.destination);
          const bytes = Uint8Array.of(length, ...ipBytes(address));
          yield { prefixes: { bytes, lengthAt: 0, addressAt: 1, stride: bytes.length, count: 1 }, form: formOf(route) };
        }
      },
    };
  }

  neighbours(device: string): Neighbour[] {
    this.#existing('neighbours', device);
    return this.neighbourList.filter((one) => one.device === device);
  }

  addVeth(request: VethRequest): void {
    this.calls.push(`addVeth ${request.hostName}`);
    this.#mayFail('add veth', request.hostName);
    const peerSpace = this.kernel.open(request.netns);
    for (const [space, name] of [
      [this, request.hostName],
      [peerSpace, request.podName],
    ] as const)
      if (space.linkByName.has(name)) throw new KernelError(`add veth ${name}`, 'EEXIST');
    const hostIndex = this.kernel.index();
    const peerIndex = this.kernel.index();
    const common = { kind: 'veth', mtu: request.mtu, up: false };
    const up = request.hostUp === true;
    const host: Link = { ...common, up, index: hostIndex, name: request.hostName, mac: request.hostMac, peerIndex };
    const pod: Link = {
      ...common,
      index: peerIndex,
      name: request.podName,
      mac: request.podMac ?? '02:00:00:00:00:01',
      peerIndex: hostIndex,
    };
    this.#peers.set(host.name, { netlink: peerSpace, name: pod.name });
    peerSpace.#peers.set(pod.name, { netlink: this, name: host.name });
    peerSpace.addLink(pod);
    this.addLink(host);
  }

  async addVethAside(request: VethRequest): Promise<Link> {
    this.addVeth(request);
    return this.#existing('add veth', request.hostName);
  }

  addVxlan({ name, id, port, local, mac, mtu }: VxlanRequest): Link {
    this.calls.push(`addVxlan ${name}`);
    this.#mayFail('add VXLAN device', name);
    if (this.linkByName.has(name)) throw new KernelError(`add VXLAN device ${name}`, 'EEXIST');
    const vxlan = { id, port, local, learning: false };
    const link: Link = { index: this.kernel.index(), name, kind: 'vxlan', mac, mtu, up: false, vxlan };
    this.addLink(link);
    return link;
  }

  addIpip(name: string): Link {
    this.calls.push(`addIpip ${name}`);
    this.#mayFail('add IPIP device', name);
    const found = this.linkByName.get(name);
    if (found?.kind === 'ipip') return found;
    if (found) throw new KernelError(`add IPIP device ${name}`, 'EEXIST');
    const link: Link = { index: this.kernel.index(), name, kind: 'ipip', mtu: 1480, up: false };
    this.addLink(link);
    return link;
  }

  /** Test side: a device appears, or changes. */
  addLink(link: Link): void {
    this.linkByName.set(link.name, link);
    this.emit({ what: 'link', link, gone: false });
  }

  async deleteLinkAside(name: string): Promise<boolean> {
    return this.deleteLink(name);
  }

  deleteLink(name: string): boolean {
    this.calls.push(`deleteLink ${name}`);
    this.#mayFail('delete link', name);
    if (!this.linkByName.has(name)) return false;
    const peer = this.#peers.get(name);
    this.#forget(name);
    if (peer) peer.netlink.#forget(peer.name);
    return true;
  }

  setLink(name: string, change: LinkChange): void {
    this.calls.push(`setLink ${name} ${JSON.stringify(change)}`);
    this.#mayFail('set link', name);
    const { alias = '', master = 0, ...others } = { ...this.#existing('set link', name), ...change };
    if (others.name !== name) this.deleteLink(name);
    this.addLink({ ...others, ...(alias !== '' && { alias }), ...(master !== 0 && { master }) });
  }

  addAddress(device: string, cidr: string): void {
    this.calls.push(`addAddress ${device} ${cidr}`);
    const { index } = this.#existing('add address', device);
    const { address, length } = splitCidr(cidr);
    if (this.addressList.some((one) => one.device === device && one.cidr === cidr)) return;
    this.addressList.push({ device, index, cidr: `${address}/${length}`, address, prefixLength: length, scope: 0 });
    this.emit({ what: 'address', index, gone: false });
  }

  deleteAddress(device: string, cidr: string): void {
    this.calls.push(`deleteAddress ${device} ${cidr}`);
    const { index } = this.#existing('delete address', device);
    const at = this.addressList.findIndex((one) => one.device === device && one.cidr === cidr);
    if (at < 0) return;
    this.addressList.splice(at, 1);
    this.emit({ what: 'address', index, gone: true });
  }

  setNeighbour({ device, address, mac }: { device: string; address: Ip; mac: string }): void {
    this.calls.push(`setNeighbour ${device} ${address}`);
    this.#existing('set neighbour', device);
    const at = this.neighbourList.findIndex((one) => one.device === device && one.address === address);
    if (at >= 0) this.neighbourList.splice(at, 1);
    this.neighbourList.push({ device, address: parseIp(address), mac, permanent: true });
  }

  setNeighbours(device: string, neighbours: readonly { readonly address: Ip; readonly mac: string }[]): void {
    for (const one of neighbours) this.setNeighbour({ device, ...one });
  }

  deleteNeighbour({ device, address }: { device: string; address: Ip }): void {
    this.calls.push(`deleteNeighbour ${device} ${address}`);
    this.#existing('delete neighbour', device);
    removeWhere(this.neighbourList, (one) => one.device === device && one.address === address);
  }

  forwarding(device: string): Forwarding[] {
    this.#existing('forwarding', device);
    return this.forwardingList.filter((one) => one.device === device);
  }

  setForwarding({ device, mac, destination }: { device: string; mac: string; destination: Ip }): void {
    this.calls.push(`setForwarding ${device} ${mac}`);
    this.#existing('set forwarding', device);
    removeWhere(this.forwardingList, (one) => one.device === device && one.mac === mac);
    this.forwardingList.push({ device, mac, destination, permanent: true });
  }

  setForwardings(device: string, entries: readonly { readonly mac: string; readonly destination: Ip }[]): void {
    for (const one of entries) this.setForwarding({ device, ...one });
  }

  deleteForwarding({ device, mac }: { device: string; mac: string }): void {
    this.calls.push(`deleteForwarding ${device} ${mac}`);
    this.#existing('delete forwarding', device);
    removeWhere(this.forwardingList, (one) => one.device === device && one.mac === mac);
  }

  queues(): Queue[] {
    return [...this.queueByDevice.values()];
  }

  setShaper(shaper: Shaper): void {
    this.calls.push(`setShaper ${shaper.device} ${shaper.rate}`);
    this.#mayFail('set shaper', shaper.device);
    this.#existing('set shaper', shaper.device);
    this.queueByDevice.set(shaper.device, { kind: 'tbf', handle: shaperHandle, ...shaper });
  }

  deleteShaper(device: string): void {
    this.calls.push(`deleteShaper ${device}`);
    this.queueByDevice.delete(device);
  }

  applyRoutes(upserts: readonly Route[], deletes: readonly Route[]): RouteFailure[] {
    const failed: RouteFailure[] = [];
    for (const route of upserts) this.#attempt('upsert', route, failed);
    for (const route of deletes) this.#attempt('delete', route, failed);
    return failed;
  }

  writeRoutes(what: 'set' | 'delete', routes: PackedRoutes): { at: number; cause: KernelError }[] {
    const list = Array.from({ length: routes.count }, (_, at) => {
      const bytes = new Uint8Array(1 + octets(routes.family(at)));
      routes.place(at, { bytes, lengthAt: 0, addressAt: 1, stride: bytes.length, count: 1 });
      return withDestination(routes.form(at), cidrOf(bytes.subarray(1), bytes[0] ?? 0));
    });
    const failures = this.applyRoutes(what === 'set' ? list : [], what === 'delete' ? list : []);
    return failures.map(({ route, cause }) => ({ at: list.indexOf(route), cause }));
  }

  monitor(
    onEvent: (event: KernelEvent) => void,
    signal: AbortSignal,
    { othersRoutes = false }: { readonly othersRoutes?: boolean } = {},
  ): { ready: Promise<void> } {
    if (signal.aborted) return { ready: Promise.resolve() };
    this.#listeners.add(onEvent);
    if (othersRoutes) this.#quiet.add(onEvent);
    signal.addEventListener('abort', () => this.#listeners.delete(onEvent), { once: true });
    return { ready: Promise.resolve() };
  }

  /** Test side: somebody else deletes a route. */
  loseRoute(route: Route): void {
    this.routeByKey.delete(routeKey(route));
    this.emit({ what: 'route', route, gone: true });
  }

  /** Test side: tells every monitor, at once. */
  emit(event: KernelEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  close(): void {
    this.closed = true;
  }

  #attempt(what: 'upsert' | 'delete', wanted: Route, failed: RouteFailure[]): void {
    const route = canonicalRoute(wanted);
    const key = routeKey(route);
    this.calls.push(`${what} ${route.destination}`);
    const code = this.failures.get(route.destination) ?? (what === 'upsert' ? this.#deviceProblem(route) : undefined);
    if (code) {
      failed.push({ route: wanted, cause: new KernelError(`${what} route ${route.destination}`, code) });
      return;
    }
    const before = this.routeByKey.get(key);
    if (what === 'upsert') this.routeByKey.set(key, route);
    else if (before?.protocol !== route.protocol) return;
    else this.routeByKey.delete(key);
    const told = what === 'upsert' ? route : (before ?? route);
    for (const listener of [...this.#listeners].filter((one) => !this.#quiet.has(one)))
      listener({ what: 'route', route: told, gone: what === 'delete' });
  }

  #deviceProblem(route: Route): string | undefined {
    const missing = route.nextHops.some((hop) => hop.device !== undefined && !this.linkByName.has(hop.device));
    return missing ? 'ENODEV' : undefined;
  }

  #existing(operation: string, name: string): Link {
    const link = this.linkByName.get(name);
    if (!link) throw new KernelError(`${operation} ${name}`, 'ENODEV', 'no such device');
    return link;
  }

  #mayFail(operation: string, name: string): void {
    const code = this.failures.get(name);
    if (code) throw new KernelError(`${operation} ${name}`, code);
  }

  /** A device goes, and with it its addresses, neighbours and routes. */
  #forget(name: string): void {
    const link = this.linkByName.get(name);
    if (!link) return;
    this.linkByName.delete(name);
    this.queueByDevice.delete(name);
    this.#peers.delete(name);
    for (const [key, route] of this.routeByKey)
      if (route.nextHops.some((hop) => hop.device === name)) this.routeByKey.delete(key);
    removeWhere(this.addressList, (one) => one.device === name);
    removeWhere(this.neighbourList, (one) => one.device === name);
    removeWhere(this.forwardingList, (one) => one.device === name);
    this.emit({ what: 'link', link, gone: true });
  }
}

function removeWhere<T>(list: T[], matches: (item: T) => boolean): void {
  for (let at = list.length - 1; at >= 0; at--) {
    const item = list[at];
    if (item !== undefined && matches(item)) list.splice(at, 1);
  }
}
