import { Writer } from '../../base/bytes.ts';
import { type Family, familyOf, type Ip, ipBytes } from '../../model/address.ts';
import { afiOf, unicast } from '../wire/capabilities.ts';

/* BMP version 3, the sender's half. RFC 7854 §4. */

const version = 3;
const types = { routeMonitoring: 0, statistics: 1, peerDown: 2, peerUp: 3, initiation: 4, termination: 5 } as const;
type Type = keyof typeof types;
/** Per-peer flags: an IPv6 peer; what is told is the Adj-RIB-In after policy (L). RFC 7854 §4.2. */
const flags = { six: 0x80, postPolicy: 0x40 } as const;
/** Kinds of information in Initiation and Termination. RFC 7854 §4.4, §4.5. */
const information = { description: 1, name: 2, terminationReason: 1 } as const;
/** Statistics. RFC 7854 §4.8. */
const statistics = { rejected: 0, adjRibIn: 7, adjRibInOfFamily: 9 } as const;

/** Which of a peer's Adj-RIBs-In a message tells of: before or after import policy. RFC 7854 §4.2. */
export type Side = 'pre' | 'post';

/** The peer that a message is about. */
export interface BmpPeer {
  readonly address: Ip;
  readonly asn: number;
  readonly identifier: Ip;
}

export interface BmpUp {
  readonly localAddress: Ip;
  readonly localPort: number;
  readonly remotePort: number;
  /** Whole messages, as they went over the session. */
  readonly sentOpen: Uint8Array;
  readonly receivedOpen: Uint8Array;
}

/** Why a session ended; a NOTIFICATION is the whole message. RFC 7854 §4.9. */
export type BmpDown =
  | { readonly by: 'us'; readonly notification?: Uint8Array }
  | { readonly by: 'peer'; readonly notification?: Uint8Array };

export interface BmpStatistics {
  readonly rejected: number;
  readonly routes: ReadonlyMap<Family, number>;
}

/** The first message of a connection: who the router is (sysName) and what runs there (sysDescr). RFC 7854 §4.3. */
export function writeInitiation(name: string, description: string): Uint8Array {
  return message('initiation', (w) => {
    writeText(w, information.description, description);
    writeText(w, information.name, name);
  });
}

/** The sender goes away for good reason: administratively closed. */
export function writeTermination(): Uint8Array {
  return message('termination', (w) => {
    w.u16(information.terminationReason);
    w.u16(2);
    w.u16(0);
  });
}

/**
 * A session came up: its ends and both OPEN messages. @param side of which Adj-RIB-In (RFC 7854 §4.2) or Loc-RIB (RFC
 * 9069). RFC 7854 §4.10.
 */
export function writePeerUp(peer: BmpPeer, up: BmpUp, at: Date, side: Side = 'post'): Uint8Array {
  return message('peerUp', (w) => {
    writePeer(w, peer, at, side);
    writeAddress(w, up.localAddress);
    w.u16(up.localPort);
    w.u16(up.remotePort);
    w.bytes(up.sentOpen);
    w.bytes(up.receivedOpen);
  });
}

/** Reasons 1 and 3 carry the NOTIFICATION; 2 says no event of the state machine; 4 is a lost connection. */
export function writePeerDown(peer: BmpPeer, down: BmpDown, at: Date, side: Side = 'post'): Uint8Array {
  return message('peerDown', (w) => {
    writePeer(w, peer, at, side);
    if (down.notification) {
      w.u8(down.by === 'us' ? 1 : 3);
      w.bytes(down.notification);
    } else if (down.by === 'us') {
      w.u8(2);
      w.u16(0);
    } else w.u8(4);
  });
}

/** @param update one whole UPDATE, with AS numbers of four octets */
export function writeRouteMonitoring(peer: BmpPeer, update: Uint8Array, at: Date, side: Side = 'post'): Uint8Array {
  return message('routeMonitoring', (w) => {
    writePeer(w, peer, at, side);
    w.bytes(update);
  });
}

/**
 * How many routes of a peer were rejected since it came up, and are held now, by family. RFC 7854 §4.8, types 0, 7
 * and 9.
 */
export function writeStatistics(
  peer: BmpPeer,
  { rejected, routes }: BmpStatistics,
  at: Date,
  side: Side = 'post',
): Uint8Array {
  return message('statistics', (w) => {
    writePeer(w, peer, at, side);
    w.u32(2 + routes.size);
    w.u16(statistics.rejected);
    w.u16(4);
    w.u32(rejected >>> 0);
    w.u16(statistics.adjRibIn);
    w.u16(8);
    writeGauge(
      w,
      [...routes.values()].reduce((sum, count) => sum + count, 0),
    );
    for (const [family, count] of routes) {
      w.u16(statistics.adjRibInOfFamily);
      w.u16(11);
      w.u16(afiOf(family));
      w.u8(unicast);
      writeGauge(w, count);
    }
  });
}

function message(type: Type, body: (w: Writer) => void): Uint8Array {
  const content = new Writer(256);
  body(content);
  const w = new Writer(6 + content.length);
  w.u8(version);
  w.u32(6 + content.length);
  w.u8(types[type]);
  w.bytes(content.finish());
  return w.finish();
}

/** RFC 7854 §4.2: a peer of the global instance. */
function writePeer(w: Writer, { address, asn, identifier }: BmpPeer, at: Date, side: Side): void {
  w.u8(0);
  w.u8((side === 'post' ? flags.postPolicy : 0) | (familyOf(address) === 6 ? flags.six : 0));
  w.u32(0);
  w.u32(0);
  writeAddress(w, address);
  w.u32(asn);
  w.bytes(ipBytes(identifier));
  const milliseconds = at.getTime();
  w.u32(Math.floor(milliseconds / 1000));
  w.u32((milliseconds % 1000) * 1000);
}

/** Sixteen octets; an IPv4 address is the last four of them. */
function writeAddress(w: Writer, address: Ip): void {
  const octets = ipBytes(address);
  w.bytes(new Uint8Array(16 - octets.length));
  w.bytes(octets);
}

function writeText(w: Writer, type: number, text: string): void {
  const octets = new TextEncoder().encode(text);
  w.u16(type);
  w.u16(octets.length);
  w.bytes(octets);
}

function writeGauge(w: Writer, count: number): void {
  w.u32(Math.floor(count / 2 ** 32));
  w.u32(count >>> 0);
}
