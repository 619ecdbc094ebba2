import { Writer } from '../../base/bytes.ts';
import { type Family, familyOf, type Ip, ipBytes } from '../../model/address.ts';
import { type Attributes, type Codec, codes, optional, writeAttribute, writeAttributes } from './attributes.ts';
import { afiOf, unicast } from './capabilities.ts';
import { headerLength, maxMessageLength, writeFrame } from './framing.ts';

/** How prefixes of some representation are written. */
export interface PrefixWriter<T> {
  /** Octets on the wire, the length octet included. */
  size(item: T): number;
  write(w: Writer, item: T): void;
}

/**
 * Whole UPDATE messages that announce `items` with one set of attributes, each as full as it gets.
 * Undefined when the attributes leave no room for a prefix: such a route cannot be told to this peer.
 * @param attributes with the next hop set
 * @param most octets of a message
 */
export function writeAnnouncements<T>(
  family: Family,
  attributes: Attributes,
  codec: Codec,
  items: Iterable<T>,
  prefixes: PrefixWriter<T>,
  most: number = maxMessageLength,
): Uint8Array[] | undefined {
  const { nextHop } = attributes;
  const extended = codec.extendedNextHop === true && family === 4;
  if (nextHop === undefined || !(familyOf(nextHop) === family || extended)) {
    throw new TypeError(`next hop ${nextHop} for IPv${family} prefixes`);
  }
  const hops = familyOf(nextHop) === 6 ? hopOctets(nextHop, attributes.linkLocal) : undefined;
  const shared = new Writer(256);
  writeAttributes(shared, attributes, codec);
  const octets = shared.finish();
  const overhead = hops ? 4 + 5 + hops.length : 0;
  const room = most - headerLength - 4 - octets.length - overhead;
  if (room < (family === 4 ? 5 : 17)) return undefined;
  return packed(items, prefixes, room).map((nlri) =>
    writeFrame('update', (w) => {
      w.u16(0);
      const lengthAt = w.length;
      w.u16(0);
      if (hops) writeReach(w, family, hops, nlri);
      w.bytes(octets);
      w.patch16(lengthAt, w.length - lengthAt - 2);
      if (!hops) w.bytes(nlri);
    }),
  );
}

function hopOctets(nextHop: Ip, linkLocal: Ip | undefined): Uint8Array {
  return linkLocal === undefined ? ipBytes(nextHop) : Buffer.concat([ipBytes(nextHop), ipBytes(linkLocal)]);
}

/** An IPv6 next hop, alone or with the link-local one. */
function writeReach(w: Writer, family: Family, hops: Uint8Array, nlri: Uint8Array): void {
  const value = new Writer(nlri.length + hops.length + 8);
  value.u16(afiOf(family));
  value.u8(unicast);
  value.u8(hops.length);
  value.bytes(hops);
  value.u8(0);
  value.bytes(nlri);
  writeAttribute(w, optional, codes.mpReach, value.finish());
}

/** Whole UPDATE messages that withdraw `items`. */
export function writeWithdrawals<T>(family: Family, items: Iterable<T>, prefixes: PrefixWriter<T>): Uint8Array[] {
  const room = maxMessageLength - headerLength - 4 - (family === 4 ? 0 : 4 + 3);
  return packed(items, prefixes, room).map((nlri) => withdrawal(family, nlri));
}

/** The mark that a family's first advertisement is complete: a withdrawal of nothing. RFC 4724 §2. */
export function writeEndOfRib(family: Family): Uint8Array {
  return withdrawal(family, new Uint8Array(0));
}

function withdrawal(family: Family, nlri: Uint8Array): Uint8Array {
  return writeFrame('update', (w) => {
    if (family === 4) {
      w.u16(nlri.length);
      w.bytes(nlri);
      w.u16(0);
      return;
    }
    const value = new Writer(nlri.length + 3);
    value.u16(afiOf(family));
    value.u8(unicast);
    value.bytes(nlri);
    w.u16(0);
    const lengthAt = w.length;
    w.u16(0);
    writeAttribute(w, optional, codes.mpUnreach, value.finish());
    w.patch16(lengthAt, w.length - lengthAt - 2);
  });
}

/** Prefixes in runs of at most `room` octets. */
function packed<T>(items: Iterable<T>, prefixes: PrefixWriter<T>, room: number): Uint8Array[] {
  const runs: Uint8Array[] = [];
  let w = new Writer(512);
  for (const item of items) {
    if (w.length + prefixes.size(item) > room) {
      runs.push(w.finish());
      w = new Writer(512);
    }
    prefixes.write(w, item);
  }
  if (w.length > 0) runs.push(w.finish());
  return runs;
}
