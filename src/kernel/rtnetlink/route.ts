import { cidrParts, type Family, familyOf, type Ip } from '../../model/address.ts';
import { canonicalRoute, defaultMetric6 } from '../route.ts';
import type { NextHop, Route, RouteType } from '../types.ts';
import {
  familyFrom,
  kernelFamily,
  kernelFamilyOf,
  lengthOf,
  number4,
  octetsOf,
  readCidr,
  readIp,
} from './address-bytes.ts';
import {
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_UNSPEC,
  RTA_DST,
  RTA_GATEWAY,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_TABLE,
  RTA_VIA,
  RTM_F_CLONED,
  RTN_BLACKHOLE,
  RTN_UNICAST,
  RTN_UNSPEC,
  RTNH_F_ONLINK,
} from './constants.ts';
import {
  type Attributes,
  hostI32,
  hostU16,
  hostU32,
  type MessageWriter,
  NetlinkFormatError,
  readAttributes,
} from './message.ts';

/* `struct rtmsg`, `struct rtnexthop` and the RTA_* attributes that we use (linux/rtnetlink.h). */

const rtmsgLength = 12;
const rtnexthopLength = 8;

/** Device name → index, as the route will be written. Undefined: there is no such device. */
export type IndexOf = (device: string) => number | undefined;
/** Index → device name, as the route was read. */
export type NameOf = (index: number) => string | undefined;

/** A next hop that names a device which is not there. */
export class NoDeviceError extends Error {
  override readonly name = 'NoDeviceError';
  constructor(readonly device: string) {
    super(`no device ${device}`);
  }
}

/**
 * Payload of RTM_NEWROUTE or RTM_DELROUTE → Route in canonical form. Undefined for what a Route cannot say: local,
 * broadcast, unreachable and other types, cached clones, and families other than IPv4 and IPv6.
 */
export function readRoute(payload: Uint8Array, nameOf: NameOf): Route | undefined {
  if (payload.length < rtmsgLength) throw new NetlinkFormatError(`route of ${payload.length} octets`);
  const family = familyFrom(payload[0] ?? 0);
  const type = routeType(payload[7] ?? 0);
  if (family === undefined || type === undefined || hostU32(payload, 8) & RTM_F_CLONED) return undefined;
  return readAnyRoute(payload, family, type, nameOf);
}

function readAnyRoute(payload: Uint8Array, family: Family, type: RouteType, nameOf: NameOf): Route {
  const attributes = readAttributes(payload, rtmsgLength);
  const priority = attributes.get(RTA_PRIORITY);
  const table = attributes.get(RTA_TABLE);
  const source = attributes.get(RTA_PREFSRC);
  return canonicalRoute({
    destination: readCidr(attributes.get(RTA_DST), payload[1] ?? 0, family),
    type,
    nextHops: type === 'blackhole' ? [] : readNextHops(attributes, hostU32(payload, 8), nameOf),
    protocol: payload[5] ?? 0,
    scope: payload[6] === RT_SCOPE_LINK ? 'link' : 'universe',
    metric: priority ? hostU32(priority, 0) : 0,
    table: table ? hostU32(table, 0) : (payload[4] ?? 0),
    ...(source ? { source: readIp(source) } : {}),
  });
}

/** Body of RTM_GETROUTE: one family's routes of one table (strict checking makes the kernel filter). */
export function writeRouteQuery(w: MessageWriter, family: Family, table: number): void {
  w.octets4(kernelFamily(family), 0, 0, 0);
  w.octets4(RT_TABLE_UNSPEC, 0, 0, 0);
  w.u32(0);
  w.attributeU32(RTA_TABLE, table);
}

/** Body of RTM_NEWROUTE. @throws NoDeviceError, InputError */
export function writeRoute(w: MessageWriter, route: Route, indexOf: IndexOf): void {
  const family = familyOf(route.destination);
  const unicast = route.type === 'unicast';
  const single = unicast && route.nextHops.length === 1 ? route.nextHops[0] : undefined;
  const scope = family === 4 && unicast && route.scope === 'link' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  w.octets4(kernelFamily(family), lengthOf(route.destination), 0, 0);
  w.octets4(RT_TABLE_UNSPEC, route.protocol, scope, unicast ? RTN_UNICAST : RTN_BLACKHOLE);
  w.u32(single?.onlink ? RTNH_F_ONLINK : 0);
  writeTarget(w, route, family);
  if (route.source !== undefined) w.attribute(RTA_PREFSRC, octetsOf(route.source));
  if (single) {
    writeGateway(w, single.gateway, family);
    if (single.device !== undefined) w.attributeU32(RTA_OIF, index(single.device, indexOf));
  } else if (unicast) writeMultipath(w, route.nextHops, family, indexOf);
}

/** Where the prefix length and the address stand in a body: after RTA_TABLE, in RTA_DST. */
export const lengthOffset = 1;
export const destinationOffset = rtmsgLength + 8 + 4;

/**
 * Body of RTM_DELROUTE: destination, table, metric and protocol, so that another's route for the same destination
 * stays. Type, scope and next hops are left open: the kernel's may differ from what we believe. An IPv4 metric of 0
 * matches every metric (net/ipv4/fib_trie.c); the protocol then tells ours.
 */
export function writeRouteRemoval(w: MessageWriter, route: Route): void {
  const family = familyOf(route.destination);
  w.octets4(kernelFamily(family), lengthOf(route.destination), 0, 0);
  w.octets4(RT_TABLE_UNSPEC, route.protocol, RT_SCOPE_NOWHERE, RTN_UNSPEC);
  w.u32(0);
  writeTarget(w, route, family);
}

/** What the kernel tells routes apart by: table, destination, metric. */
function writeTarget(w: MessageWriter, route: Route, family: Family): void {
  w.attributeU32(RTA_TABLE, route.table);
  if (family === 4) w.attributeOctets4(RTA_DST, number4(route.destination));
  else w.attribute(RTA_DST, octetsOf(cidrParts(route.destination).address));
  writeMetric(w, route, family);
}

function writeMetric(w: MessageWriter, { metric }: Route, family: Family): void {
  const value = family === 6 && metric === 0 ? defaultMetric6 : metric;
  if (value !== 0) w.attributeU32(RTA_PRIORITY, value);
}

function writeGateway(w: MessageWriter, gateway: Ip | undefined, family: Family): void {
  if (gateway === undefined) return;
  const same = familyOf(gateway) === family;
  if (same && family === 4) w.attributeOctets4(RTA_GATEWAY, number4(gateway));
  else if (same) w.attribute(RTA_GATEWAY, octetsOf(gateway));
  else writeVia(w, gateway);
}

function writeVia(w: MessageWriter, gateway: Ip): void {
  const at = w.nest(RTA_VIA);
  w.u16(kernelFamilyOf(gateway));
  for (const octet of octetsOf(gateway)) w.u8(octet);
  w.close(at);
}

function writeMultipath(w: MessageWriter, hops: readonly NextHop[], family: Family, indexOf: IndexOf): void {
  const all = w.nest(RTA_MULTIPATH);
  for (const hop of hops) {
    const at = w.length;
    w.u16(0);
    w.u8(hop.onlink ? RTNH_F_ONLINK : 0);
    w.u8((hop.weight ?? 1) - 1);
    w.u32(hop.device === undefined ? 0 : index(hop.device, indexOf));
    writeGateway(w, hop.gateway, family);
    w.close(at);
  }
  w.close(all);
}

function readNextHops(attributes: Attributes, flags: number, nameOf: NameOf): NextHop[] {
  const multipath = attributes.get(RTA_MULTIPATH);
  if (multipath) return readMultipath(multipath, nameOf);
  const oif = attributes.get(RTA_OIF);
  return [readHop(attributes, oif ? hostI32(oif, 0) : 0, flags, 1, nameOf)];
}

function readMultipath(bytes: Uint8Array, nameOf: NameOf): NextHop[] {
  const hops: NextHop[] = [];
  for (let at = 0; bytes.length - at >= rtnexthopLength; ) {
    const length = hostU16(bytes, at);
    if (length < rtnexthopLength || length > bytes.length - at)
      throw new NetlinkFormatError(`next hop length ${length} of ${bytes.length - at} octets`);
    const attributes = readAttributes(bytes.subarray(at, at + length), rtnexthopLength);
    hops.push(readHop(attributes, hostI32(bytes, at + 4), bytes[at + 2] ?? 0, (bytes[at + 3] ?? 0) + 1, nameOf));
    at += (length + 3) & ~3;
  }
  return hops;
}

function readHop(attributes: Attributes, oif: number, flags: number, weight: number, nameOf: NameOf): NextHop {
  const gateway = attributes.get(RTA_GATEWAY) ?? attributes.get(RTA_VIA)?.subarray(2);
  const device = oif === 0 ? undefined : nameOf(oif);
  return {
    ...(gateway ? { gateway: readIp(gateway) } : {}),
    ...(device === undefined ? {} : { device }),
    weight,
    onlink: (flags & RTNH_F_ONLINK) !== 0,
  };
}

function routeType(type: number): RouteType | undefined {
  if (type === RTN_UNICAST) return 'unicast';
  return type === RTN_BLACKHOLE ? 'blackhole' : undefined;
}

function index(device: string, indexOf: IndexOf): number {
  const found = indexOf(device);
  if (found === undefined) throw new NoDeviceError(device);
  return found;
}
