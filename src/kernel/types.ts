import type { Cidr, Family, Ip } from '../model/address.ts';

/* Kernel objects as plain values. Drivers in this folder read and write them; nothing here decides anything. */

/** rtnetlink link, kernel `struct ifinfomsg`. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** IFLA_INFO_KIND: `veth`, `vxlan`, `ipip`, `bridge`; undefined for physical devices. */
  readonly kind?: string;
  readonly mac?: string;
  /** IFLA_IFALIAS */
  readonly alias?: string;
  readonly mtu: number;
  /** IFF_UP. */
  readonly up: boolean;
  /** IFLA_LINK: index of the veth peer, in `peerNamespaceId` if that is set. */
  readonly peerIndex?: number;
  readonly peerNamespaceId?: number;
  /** IFLA_MASTER: index of the bridge that the device is a port of. */
  readonly master?: number;
  /** Of a VXLAN device. */
  readonly vxlan?: VxlanSettings;
}

/** What a VXLAN device is made with; another setting needs another device. */
export interface VxlanSettings {
  /** Network identifier, 24 bits. RFC 7348 §5. */
  readonly id: number;
  /** UDP. */
  readonly port: number;
  readonly learning: boolean;
  /** Source of the outer packets. */
  readonly local?: Ip;
}

export interface VxlanRequest {
  readonly name: string;
  readonly id: number;
  readonly port: number;
  readonly local: Ip;
  readonly mac: string;
  readonly mtu: number;
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  /** At most 255 octets; empty takes it away. */
  readonly alias?: string;
  /** A new name; the device must be down for it (before Linux 6.2). */
  readonly name?: string;
  /** Index of the bridge to become a port of; 0 leaves it. */
  readonly master?: number;
}

/** An entry of a VXLAN device's forwarding database: frames to `mac` go to `destination`. */
export interface Forwarding {
  readonly mac: string;
  readonly destination: Ip;
  readonly permanent: boolean;
}

export interface NextHop {
  readonly gateway?: Ip;
  readonly device?: string;
  readonly weight?: number;
  /** RTNH_F_ONLINK */
  readonly onlink?: boolean;
}

export type RouteType = 'unicast' | 'blackhole';

/**
 * A route as `routes()` gives it, which is also the form to compare with: see canonicalRoute and sameRoute in
 * route.ts. The kernel tells routes apart by table, destination and metric.
 */
export interface Route {
  readonly destination: Cidr;
  readonly type: RouteType;
  /** Empty for blackholes; more than one is ECMP. Sorted by gateway, then device. */
  readonly nextHops: readonly NextHop[];
  /** RTPROT_*: 80 is ours, 3 boot (Calico's workload routes), 12 BIRD. */
  readonly protocol: number;
  /** `link` for directly attached, `universe` otherwise; IPv6 has only `universe`. */
  readonly scope: 'universe' | 'link';
  /** RTA_PRIORITY; 0 when absent. For IPv6 the kernel's default of 1024 is read as 0, and 0 is written as 1024. */
  readonly metric: number;
  readonly table: number;
  /** RTA_PREFSRC */
  readonly source?: Ip;
}

/** What a route is besides its destination: routes are many, their forms few. */
export type RouteForm = Omit<Route, 'destination'>;

/**
 * Prefixes of one family among octets, at even distances: of each its length in bits, an octet, and its address of 4 or
 * 16.
 */
export interface PrefixRun {
  readonly bytes: Uint8Array;
  /** Where the first one's length and address stand. */
  readonly lengthAt: number;
  readonly addressAt: number;
  /** Octets from one to the next. */
  readonly stride: number;
  readonly count: number;
}

/** Routes that stand packed somewhere, and are written to the kernel from there. */
export interface PackedRoutes {
  readonly count: number;
  family(at: number): Family;
  /** The same object for routes that are alike, as far as possible. */
  form(at: number): RouteForm;
  /** How many in a row are of the family and form of that at `at`, which is one of them. */
  alike(at: number): number;
  /** Puts the prefixes from `at` on, alike, where the run says. */
  place(at: number, run: PrefixRun): void;
  /** For errors. */
  destination(at: number): Cidr;
}

export interface AddressOnLink {
  readonly device: string;
  readonly index: number;
  readonly cidr: string;
  readonly address: Ip;
  readonly prefixLength: number;
  readonly scope: number;
}

export interface Neighbour {
  readonly device: string;
  readonly address: Ip;
  readonly mac?: string;
  readonly permanent: boolean;
}

/** Handle of a shaper of ours, `ca11:`, by which it is told from another program's. */
export const shaperHandle = 0xca110000;

/** The queueing discipline at a device's root, where there is one beside the kernel's own. tc(8). */
export interface Queue {
  readonly device: string;
  /** `tbf`, `fq_codel`, … */
  readonly kind: string;
  /** 0x00010000 is `1:` */
  readonly handle: number;
  /** Of a tbf: octets a second. */
  readonly rate?: number;
  /** Of a tbf: octets that go at once, to about a thousandth. */
  readonly burst?: number;
  /** Of a tbf: octets that wait. */
  readonly limit?: number;
}

export interface Shaper {
  readonly device: string;
  /** Octets a second. */
  readonly rate: number;
  /** Octets that go at once. */
  readonly burst: number;
  /** Octets that wait. */
  readonly limit: number;
}

/** The kernel refused a request. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  constructor(
    readonly operation: string,
    /** `EEXIST`, `ENODEV`, … */
    readonly code: string,
    /** The kernel's extended acknowledgement text, when it gave one. */
    readonly detail?: string,
  ) {
    super(`${operation}: ${code}${detail ? ` (${detail})` : ''}`);
  }
}

export interface VethRequest {
  readonly hostName: string;
  /** Device name inside the pod, `eth0`. */
  readonly podName: string;
  /** Path of the pod's network namespace, `/run/netns/…` or `/proc/<pid>/ns/net`. */
  readonly netns: string;
  readonly mtu: number;
  readonly hostMac: string;
  readonly podMac?: string;
  /** The host's end is up from the start; the pod's never is. */
  readonly hostUp?: boolean;
}

/** What happened in the kernel; `overrun` means events were lost and everything must be read again. */
export type KernelEvent =
  | { readonly what: 'link'; readonly link: Link; readonly gone: boolean }
  | { readonly what: 'address'; readonly index: number; readonly gone: boolean }
  | { readonly what: 'route'; readonly route: Route; readonly gone: boolean }
  | { readonly what: 'overrun' };

export interface RouteFailure {
  readonly route: Route;
  readonly cause: KernelError;
}

/** The routes of one family and table as they are now, beside the last reading of the same. */
export interface RouteReading {
  /** Every route is as it was at the last reading through the same Netlink. */
  readonly unchanged: boolean;
  routes(): Route[];
  /**
   * Every route, some of those alike that the kernel tells in a row at a time: their prefixes, a view that lasts until
   * the next, and their form, the same object again for routes alike. It may be left and gone on with later, but not
   * after another reading of the same.
   */
  runs(): Iterable<{ readonly prefixes: PrefixRun; readonly form: RouteForm }>;
}

/**
 * rtnetlink of one network namespace: the one that the object was opened in. Calls are synchronous and short
 * (microseconds each), batches are sliced by the caller.
 */
export interface Netlink {
  /**
   * What `action` asks of `setLink`, `addAddress`, `setNeighbour` and `applyRoutes` (routes to be set) goes to the kernel
   * in one message after it, in order, and each device is looked up once.
   * @param known indexes of devices, by name, that need not be looked up
   * @throws KernelError, the first; what comes after it is done nonetheless
   */
  together(action: () => void, known?: ReadonlyMap<string, number>): void;
  links(): Link[];
  link(name: string): Link | undefined;
  addresses(family?: Family): AddressOnLink[];
  /** Routes of `table` (default main, 254), of both families or one. */
  routes(family?: Family, table?: number): Route[];
  /** As `routes`, for one who looks again and again: an unchanged table need not be taken apart. */
  readRoutes(family: Family, table: number): RouteReading;
  neighbours(device: string): Neighbour[];
  /**
   * Creates the pair with the peer born inside the namespace. Both ends' names and MACs as asked; both are down.
   * @throws KernelError (`EEXIST` for either name), InputError for the namespace's path
   */
  addVeth(request: VethRequest): void;
  /** The same while this thread goes on: the kernel takes a millisecond. @returns the host's end */
  addVethAside(request: VethRequest): Promise<Link>;
  /** A VXLAN device without learning; it is down. @throws KernelError (`EEXIST`, `EOPNOTSUPP` without the module) */
  addVxlan(request: VxlanRequest): Link;
  /**
   * An IP-in-IP device (RFC 2003) without addresses of its own, so that routes say where its packets go; it is down. The
   * `tunl0` that the kernel's module brings into every namespace is taken if it has that name.
   * @throws KernelError (`EOPNOTSUPP` without the module, `EEXIST` for another kind of device)
   */
  addIpip(name: string): Link;
  /** True when it was there. @throws KernelError for anything but absence */
  deleteLink(name: string): boolean;
  /** The same while this thread goes on: a device that much leads through takes the kernel tens of milliseconds. */
  deleteLinkAside(name: string): Promise<boolean>;
  setLink(name: string, change: LinkChange): void;
  /** @throws KernelError; an address that is there already is success, as is the absence of one to be deleted. */
  addAddress(device: string, cidr: string, options?: { noDad?: boolean }): void;
  deleteAddress(device: string, cidr: string): void;
  setNeighbour(neighbour: { device: string; address: Ip; mac: string }): void;
  /** Many at once. @throws KernelError, the first; the others are set */
  setNeighbours(device: string, neighbours: readonly { readonly address: Ip; readonly mac: string }[]): void;
  /** Absence is success. */
  deleteNeighbour(neighbour: { device: string; address: Ip }): void;
  /** The forwarding database of a VXLAN device. */
  forwarding(device: string): Forwarding[];
  /** A permanent entry, in place of the one that the MAC has. */
  setForwarding(entry: { device: string; mac: string; destination: Ip }): void;
  /** Many at once. @throws KernelError, the first; the others are set */
  setForwardings(device: string, entries: readonly { readonly mac: string; readonly destination: Ip }[]): void;
  /** Absence is success. */
  deleteForwarding(entry: { device: string; mac: string; destination: Ip }): void;
  queues(): Queue[];
  /** A token bucket filter at the device's root, in place of what is there. */
  setShaper(shaper: Shaper): void;
  /** Absence is success. */
  deleteShaper(device: string): void;
  /**
   * First `upserts` in order (NLM_F_REPLACE), then `deletes`: only routes of the protocol given, and absence is success.
   * One failure does not stop the others.
   */
  applyRoutes(upserts: readonly Route[], deletes: readonly Route[]): RouteFailure[];
  /** As `applyRoutes`, for one of the two and routes without an object each. @returns what was refused */
  writeRoutes(what: 'set' | 'delete', routes: PackedRoutes): { readonly at: number; readonly cause: KernelError }[];
  /**
   * Events from the call on, delivered once `ready` resolves; stops on abort, which must come before `close`.
   * `othersRoutes`: routes that this Netlink itself set or deleted are not told.
   */
  monitor(
    onEvent: (event: KernelEvent) => void,
    signal: AbortSignal,
    options?: { readonly othersRoutes?: boolean },
  ): { ready: Promise<void> };
  close(): void;
}

/** ------------------------------------------------------------------ iptables */

export type TableName = 'raw' | 'mangle' | 'nat' | 'filter';

/** Rules as iptables-restore text without `-A chain` and without the hash comment, for example `-p tcp --dport 80 -j ACCEPT`. */
export type RuleText = string;

/** Everything we want in one table: our chains whole, and in kernel chains the rules that stand first. */
export interface DesiredTable {
  /** Name begins with `cali`; at most 28 characters. */
  readonly chains: ReadonlyMap<string, readonly RuleText[]>;
  /** Kernel chain (`FORWARD`) → our rules, inserted above everything else. */
  readonly insertions: ReadonlyMap<string, readonly RuleText[]>;
  /** Kernel chain → our rules that stand after everything else (accept-on-mark). */
  readonly appendices?: ReadonlyMap<string, readonly RuleText[]>;
}

export interface Iptables {
  /**
   * Makes the tables as desired with the fewest lines; foreign rules are untouched, tables not named too. Rule arrays
   * are values: a changed chain comes with a new array. Rejects with IptablesError; InputError for a rule that cannot be.
   */
  apply(desired: ReadonlyMap<TableName, DesiredTable>): Promise<{ changedChains: number }>;
  /** Forgets what is believed of the kernel: the next apply reads it again. */
  invalidate(): void;
}

/** iptables-restore refused its input; what was in the kernel before still stands. */
export class IptablesError extends Error {
  override readonly name = 'IptablesError';
  constructor(
    message: string,
    /** The input line it names, if it does. */
    readonly line?: string,
    /** Another program held the xtables lock for as long as we waited. */
    readonly locked = false,
  ) {
    super(message);
  }
}

/** ------------------------------------------------------------------ ipset */

export type SetType = 'hash:net' | 'hash:ip,port';

/** An IP set as wanted; name from `cali40…`/`cali60…`, at most 31 characters. */
export interface DesiredSet {
  readonly name: string;
  readonly type: SetType;
  readonly family: Family;
  /** Canonical members: `10.0.0.0/8`, `10.0.0.1/32` for hash:net; `10.0.0.1,tcp:80` for hash:ip,port. */
  readonly members: ReadonlySet<string>;
}

/** Sets that could not be made as desired or destroyed; the others were. */
export class IpsetError extends Error {
  override readonly name = 'IpsetError';
  constructor(
    /** Set name → what ipset, or the check before it, said. */
    readonly failed: ReadonlyMap<string, string>,
  ) {
    super([...failed].map(([name, reason]) => `IP set ${name}: ${reason}`).join('; '));
  }
}

export interface Ipsets {
  /**
   * Creates what is missing and brings members up to date by deltas. Deletes nothing. A `members` object that was
   * applied before counts as unchanged. Rejects with IpsetError naming the failed sets; the others are applied.
   */
  applyUpdates(desired: ReadonlyMap<string, DesiredSet>): Promise<void>;
  /** Destroys our sets that are no longer desired; call it after no rule refers to them. Rejects with IpsetError. */
  applyDeletions(desired: ReadonlyMap<string, DesiredSet>): Promise<void>;
  invalidate(): void;
}
