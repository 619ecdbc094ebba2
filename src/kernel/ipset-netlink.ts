import { InputError } from '../base/errors.ts';
import { type Family, type Ip, parseIp } from '../model/address.ts';
import { kernelFamily, octetsOf } from './rtnetlink/address-bytes.ts';
import type { MessageWriter } from './rtnetlink/message.ts';
import type { Request } from './rtnetlink/requests.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './rtnetlink/socket.ts';
import type { KernelError } from './types.ts';

/*
 * Members of IP sets over netlink: messages of subsystem NFNL_SUBSYS_IPSET, each with a `struct nfgenmsg` before its
 * attributes (linux/netfilter/ipset/ip_set.h). Only members: sets are made and destroyed by the program, which knows
 * the revisions of set types. A program costs a fork for every label that changes, this a system call.
 */

const subsystem = 6 << 8;
const IPSET_CMD_ADD = subsystem | 9;
const IPSET_CMD_DEL = subsystem | 10;
/** What every kernel since 2.6.39 speaks; later protocols add nothing for members. */
const IPSET_PROTOCOL = 6;

const NLA_F_NESTED = 0x8000;
const NLA_F_NET_BYTEORDER = 0x4000;
const IPSET_ATTR_PROTOCOL = 1;
const IPSET_ATTR_SETNAME = 2;
const IPSET_ATTR_DATA = 7;
/* Inside IPSET_ATTR_DATA. */
const IPSET_ATTR_IP = 1;
const IPSET_ATTR_CIDR = 3;
const IPSET_ATTR_PORT = 4;
const IPSET_ATTR_PROTO = 7;
/* Inside IPSET_ATTR_IP. */
const IPSET_ATTR_IPADDR = { 4: 1, 6: 2 } as const;

/** IANA protocol numbers of what `hash:ip,port` members name. */
const protocols: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132, udplite: 136 };

/** A member that a set gets or loses. What is there already is success, as is the absence of what goes. */
export interface MemberChange {
  readonly op: 'add' | 'del';
  readonly set: string;
  readonly family: Family;
  /** `10.0.0.1/32` or `10.0.0.1,tcp:80`. */
  readonly member: string;
}

/** Changes members in one network namespace: the one that the object was opened in. */
export interface IpsetMembers {
  /** In order. @returns the first refusal, after all were tried. @throws InputError for a member that cannot be written */
  change(changes: readonly MemberChange[]): KernelError | undefined;
  close(): void;
}

/** @throws KernelError; EnvironmentError without CAP_NET_ADMIN */
export function openIpsetMembers(): IpsetMembers {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  return {
    change: (changes) => socket.batch(changes.map(requestOf)).find((refusal) => refusal !== undefined),
    close: () => socket.close(),
  };
}

function requestOf(change: MemberChange): Request {
  const { op, set, member } = change;
  const type = op === 'add' ? IPSET_CMD_ADD : IPSET_CMD_DEL;
  return { operation: `${op} ${member} of IP set ${set}`, type, body: (w) => writeMember(w, change) };
}

/** Body of IPSET_CMD_ADD and IPSET_CMD_DEL. @throws InputError */
export function writeMember(w: MessageWriter, { set, family, member }: MemberChange): void {
  w.octets4(kernelFamily(family), 0, 0, 0);
  w.attribute(IPSET_ATTR_PROTOCOL, Uint8Array.of(IPSET_PROTOCOL));
  w.attributeText(IPSET_ATTR_SETNAME, set);
  const data = w.nest(IPSET_ATTR_DATA | NLA_F_NESTED);
  const [, address = '', length, protocol = '', port] = memberForm.exec(member) ?? [];
  const bad = () => new InputError(`IP set ${set}`, member, 'ADDRESS/LENGTH or ADDRESS,PROTOCOL:PORT');
  if (address === '') throw bad();
  writeAddress(w, parseIp(address), family);
  if (length !== undefined) w.attribute(IPSET_ATTR_CIDR, Uint8Array.of(Number(length)));
  else {
    const number = protocols[protocol];
    if (number === undefined) throw bad();
    w.attribute(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, Uint8Array.of(Number(port) >> 8, Number(port) & 255));
    w.attribute(IPSET_ATTR_PROTO, Uint8Array.of(number));
  }
  w.close(data);
}

const memberForm = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3})|,(\w+):(\d{1,5}))$/;

function writeAddress(w: MessageWriter, address: Ip, family: Family): void {
  const nested = w.nest(IPSET_ATTR_IP | NLA_F_NESTED);
  w.attribute(IPSET_ATTR_IPADDR[family] | NLA_F_NET_BYTEORDER, octetsOf(address));
  w.close(nested);
}
