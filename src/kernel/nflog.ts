import { type MessageWriter, NetlinkFormatError, readAttributes, text } from './rtnetlink/message.ts';

/*
 * Packets that rules log, over netlink: messages of subsystem NFNL_SUBSYS_ULOG (linux/netfilter/nfnetlink_log.h). Numbers in
 * attributes are in network order.
 */

const subsystem = 4 << 8;
export const NFULNL_MSG_PACKET = subsystem | 0;
export const NFULNL_MSG_CONFIG = subsystem | 1;

/** Length of `struct nfgenmsg`. */
const headLength = 4;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NFULA_SEQ = 12;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_NLBUFSIZ = 3;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_CFG_QTHRESH = 5;
const NFULA_CFG_FLAGS = 6;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;
const NFULNL_CFG_F_SEQ = 1;

/** How the kernel hands over what is logged to a group. */
export interface LogGroup {
  /** Of the rules: `--nflog-group`. */
  readonly group: number;
  /** Octets of each packet. */
  readonly copy: number;
  /** Octets of a datagram, which several packets share. */
  readonly datagram: number;
  /** Packets that the kernel gathers before it sends. */
  readonly gather: number;
  /** Hundredths of a second that it gathers for. */
  readonly gatherFor: number;
}

/** Body of NFULNL_MSG_CONFIG: binds the socket to a group. */
export function writeBind(w: MessageWriter, { group, copy, datagram, gather, gatherFor }: LogGroup): void {
  w.u8(0);
  w.u8(0);
  w.u8(group >> 8);
  w.u8(group & 0xff);
  w.attribute(NFULA_CFG_CMD, Uint8Array.of(NFULNL_CFG_CMD_BIND));
  // struct nfulnl_msg_config_mode: range, mode, padding.
  w.attribute(NFULA_CFG_MODE, Uint8Array.of(...octets4(copy), NFULNL_COPY_PACKET, 0));
  w.attributeOctets4(NFULA_CFG_NLBUFSIZ, datagram);
  w.attributeOctets4(NFULA_CFG_TIMEOUT, gatherFor);
  w.attributeOctets4(NFULA_CFG_QTHRESH, gather);
  w.attribute(NFULA_CFG_FLAGS, Uint8Array.of(0, NFULNL_CFG_F_SEQ));
}

/** A packet that a rule logged. */
export interface LoggedPacket {
  /** Of the rule: `--nflog-prefix`. */
  readonly prefix: string;
  /** Counts what is logged to the group, modulo 2^32; a gap was lost. */
  readonly sequence: number;
  /** From the IP header on; a view into the datagram. */
  readonly packet: Uint8Array;
}

/** Payload of NFULNL_MSG_PACKET. @throws NetlinkFormatError */
export function readLogged(payload: Uint8Array): LoggedPacket {
  const attributes = readAttributes(payload, headLength);
  const sequence = attributes.get(NFULA_SEQ);
  if (sequence?.length !== 4) throw new NetlinkFormatError('logged packet without a sequence number');
  return {
    prefix: text(attributes.get(NFULA_PREFIX) ?? new Uint8Array()),
    sequence: new DataView(sequence.buffer, sequence.byteOffset).getUint32(0),
    packet: attributes.get(NFULA_PAYLOAD) ?? new Uint8Array(),
  };
}

function octets4(value: number): number[] {
  return [value >>> 24, (value >> 16) & 0xff, (value >> 8) & 0xff, value & 0xff];
}
