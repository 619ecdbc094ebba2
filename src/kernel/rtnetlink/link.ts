import { InputError } from '../../base/errors.ts';
import type { Link, LinkChange, VethRequest, VxlanRequest } from '../types.ts';
import {
  IFF_UP,
  IFLA_ADDRESS,
  IFLA_EXT_MASK,
  IFLA_IFALIAS,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINK,
  IFLA_LINK_NETNSID,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_MTU,
  IFLA_NET_NS_FD,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTEXT_FILTER_SKIP_STATS,
  RTM_GETLINK,
  RTM_NEWLINK,
  VETH_INFO_PEER,
} from './constants.ts';
import { hostI32, hostU16, hostU32, type MessageWriter, NetlinkFormatError, readAttributes, text } from './message.ts';
import type { Request } from './requests.ts';
import { readVxlan, writeVxlanInfo } from './vxlan.ts';

/* `struct ifinfomsg` and the IFLA_* attributes that we use (linux/if_link.h). */

const ifinfomsgLength = 16;

/** Payload of RTM_NEWLINK or RTM_DELLINK → Link. @throws NetlinkFormatError */
export function readLink(payload: Uint8Array): Link {
  const attributes = readAttributes(payload, ifinfomsgLength);
  const name = attributes.get(IFLA_IFNAME);
  if (!name) throw new NetlinkFormatError('link without a name');
  const mac = attributes.get(IFLA_ADDRESS);
  const mtu = attributes.get(IFLA_MTU);
  const alias = attributes.get(IFLA_IFALIAS);
  const peer = attributes.get(IFLA_LINK);
  const peerNamespace = attributes.get(IFLA_LINK_NETNSID);
  const master = attributes.get(IFLA_MASTER);
  const info = attributes.get(IFLA_LINKINFO);
  const details = info && readAttributes(info, 0);
  const kind = details?.get(IFLA_INFO_KIND);
  const data = details?.get(IFLA_INFO_DATA);
  return {
    index: hostI32(payload, 4),
    name: text(name),
    ...(kind ? { kind: text(kind) } : {}),
    ...(mac?.length === 6 ? { mac: formatMac(mac) } : {}),
    ...(alias ? { alias: text(alias) } : {}),
    mtu: mtu ? hostU32(mtu, 0) : 0,
    up: (hostU32(payload, 8) & IFF_UP) !== 0,
    ...(peer ? { peerIndex: hostI32(peer, 0) } : {}),
    ...(peerNamespace ? { peerNamespaceId: hostI32(peerNamespace, 0) } : {}),
    ...(master ? { master: hostI32(master, 0) } : {}),
    ...(kind && data && text(kind) === 'vxlan' ? { vxlan: readVxlan(data) } : {}),
  };
}

/** Index and name of a link, for one who looks at a thousand of them: the kernel gives the name first. */
export function readLinkName(payload: Uint8Array): readonly [index: number, name: string] {
  const first = payload.length >= ifinfomsgLength + 4 && hostU16(payload, ifinfomsgLength + 2) === IFLA_IFNAME;
  const end = first ? payload.indexOf(0, ifinfomsgLength + 4) : -1;
  if (end > 0) return [hostI32(payload, 4), text(payload.subarray(ifinfomsgLength + 4, end))];
  const { index, name } = readLink(payload);
  return [index, name];
}

/** Body of RTM_GETLINK: all links, or the one with this name or index. */
export function writeLinkQuery(w: MessageWriter, which: { name?: string; index?: number } = {}): void {
  writeIfinfomsg(w, { index: which.index ?? 0 });
  w.attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  if (which.name !== undefined) w.attributeText(IFLA_IFNAME, checkedName(which.name));
}

/** Asks for the link of this name. */
export function linkQuery(name: string): Request {
  const which = { name: checkedName(name) };
  return { operation: `get link ${name}`, type: RTM_GETLINK, body: (w) => writeLinkQuery(w, which) };
}

/** Body of RTM_DELLINK. */
export function writeLinkRemoval(w: MessageWriter, name: string): void {
  writeIfinfomsg(w, {});
  w.attributeText(IFLA_IFNAME, checkedName(name));
}

/** Body of RTM_NEWLINK that changes the link of this index. */
export function writeLinkChange(w: MessageWriter, index: number, change: LinkChange): void {
  writeIfinfomsg(w, { index, ...(change.up === undefined ? {} : { up: change.up }) });
  if (change.mtu !== undefined) w.attributeU32(IFLA_MTU, change.mtu);
  if (change.mac !== undefined) w.attribute(IFLA_ADDRESS, parseMac(change.mac));
  if (change.name !== undefined) w.attributeText(IFLA_IFNAME, checkedName(change.name));
  if (change.master !== undefined) w.attributeU32(IFLA_MASTER, change.master);
  // Without a final NUL: an empty one takes the alias away (dev_set_alias).
  if (change.alias !== undefined) w.attribute(IFLA_IFALIAS, Buffer.from(change.alias, 'utf8'));
}

/** A veth pair as RTM_NEWLINK wants it: the peer's namespace is an open descriptor. */
export interface VethPair {
  readonly hostName: string;
  readonly podName: string;
  readonly hostMac: string;
  readonly podMac?: string;
  readonly hostUp?: boolean;
  readonly mtu: number;
  readonly namespace: number;
}

/** Body of RTM_NEWLINK; the peer is born in its namespace. IFF_UP for the peer would be refused (ENOTCONN). */
export function writeVeth(w: MessageWriter, pair: VethPair): void {
  writeIfinfomsg(w, pair.hostUp ? { up: true } : {});
  w.attributeText(IFLA_IFNAME, checkedName(pair.hostName));
  w.attributeU32(IFLA_MTU, pair.mtu);
  w.attribute(IFLA_ADDRESS, parseMac(pair.hostMac));
  const info = w.nest(IFLA_LINKINFO);
  w.attributeText(IFLA_INFO_KIND, 'veth');
  const data = w.nest(IFLA_INFO_DATA);
  const peer = w.nest(VETH_INFO_PEER);
  writeIfinfomsg(w, {});
  w.attributeText(IFLA_IFNAME, checkedName(pair.podName));
  w.attributeU32(IFLA_MTU, pair.mtu);
  if (pair.podMac !== undefined) w.attribute(IFLA_ADDRESS, parseMac(pair.podMac));
  w.attributeU32(IFLA_NET_NS_FD, pair.namespace);
  w.close(peer);
  w.close(data);
  w.close(info);
}

/** Body of RTM_NEWLINK for a VXLAN device. */
export function writeVxlan(w: MessageWriter, request: VxlanRequest): void {
  writeIfinfomsg(w, {});
  w.attributeText(IFLA_IFNAME, checkedName(request.name));
  w.attributeU32(IFLA_MTU, request.mtu);
  w.attribute(IFLA_ADDRESS, parseMac(request.mac));
  writeVxlanInfo(w, request);
}

/** Body of RTM_NEWLINK for an IPIP device with neither a local nor a remote address. */
export function writeIpip(w: MessageWriter, name: string): void {
  writeIfinfomsg(w, {});
  w.attributeText(IFLA_IFNAME, checkedName(name));
  const info = w.nest(IFLA_LINKINFO);
  w.attributeText(IFLA_INFO_KIND, 'ipip');
  w.close(info);
}

/** `aa:bb:cc:dd:ee:ff` → six octets. @throws InputError */
export function parseMac(value: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value))
    throw new InputError('mac', value, 'six octets, aa:bb:cc:dd:ee:ff');
  return Uint8Array.from(value.split(':'), (octet) => Number.parseInt(octet, 16));
}

/** `00` to `ff` */
const hexadecimal = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, '0'));

export function formatMac(octets: Uint8Array): string {
  let text = '';
  for (const octet of octets) text += text === '' ? hexadecimal[octet] : `:${hexadecimal[octet]}`;
  return text;
}

/** IFNAMSIZ is 16 with the final NUL. @throws InputError */
export function checkedName(name: string): string {
  if (!/^[^\s/:\0]{1,15}$/.test(name) || name === '.' || name === '..')
    throw new InputError('device', name, 'a device name of at most 15 characters');
  return name;
}

function writeIfinfomsg(w: MessageWriter, { index = 0, up }: { index?: number; up?: boolean }): void {
  w.u32(0);
  w.u32(index);
  w.u32(up ? IFF_UP : 0);
  w.u32(up === undefined ? 0 : IFF_UP);
}

/** RTM_NEWLINK for a pair of devices. @param namespace descriptor of the pod's, open until the kernel has answered */
export function vethRequest(request: VethRequest, namespace: number): Request {
  return {
    operation: `add veth ${request.hostName} with ${request.podName} in ${request.netns}`,
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (w) => writeVeth(w, { ...request, namespace }),
  };
}
