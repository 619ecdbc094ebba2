import { Writer } from '../../src/base/bytes.ts';
import { headerLength, maxMessageLength, messageTypes } from '../../src/bgp/wire/framing.ts';

/** An IPv4 prefix as one number, length × 2³² + address: a million of them are no objects. */
export type PrefixNumber = number;

/** Routes that share one set of path attributes. */
export interface RouteGroup {
  /** The path attributes as they stand in an UPDATE. RFC 4271 §4.3. */
  readonly attributes: Uint8Array;
  readonly prefixes: readonly PrefixNumber[];
}

export function prefixNumber(address: number, length: number): PrefixNumber {
  return length * 2 ** 32 + address;
}

export function addressOf(prefix: PrefixNumber): number {
  return prefix % 2 ** 32;
}

export function lengthOf(prefix: PrefixNumber): number {
  return Math.floor(prefix / 2 ** 32);
}

/** `count` /32s from 10.128.0.0 on, beginning with number `first`, all alike: the pods of a node. */
export function hostRoutes(count: number, nextHop: number, first = 0): RouteGroup[] {
  const base = 0x0a800000 + first;
  const prefixes = Array.from({ length: count }, (_, i) => prefixNumber(base + i, 32));
  return [{ attributes: attributesOf({ path: [], nextHop, communities: [] }), prefixes }];
}

/** Parts of a thousand by prefix length, near those of the Internet's table; the last row takes the rest. */
const shares: readonly (readonly [length: number, perMille: number])[] = [
  [16, 14],
  [17, 8],
  [18, 14],
  [19, 26],
  [20, 45],
  [21, 50],
  [22, 110],
  [23, 100],
  [24, 590],
  [32, 43],
];

/** First octets that no route of the table has: private, shared, loopback, link-local, documentation. */
const reserved = new Set([10, 100, 127, 169, 172, 192, 198, 203]);

/**
 * `count` prefixes of mixed lengths in random order, one attribute set for one to nine of them, five on average. The same
 * for the same seed. @throws RangeError when unicast space is used up
 */
export function tableRoutes(count: number, nextHop: number, seed = 1): RouteGroup[] {
  const below = randomBelow(seed);
  const prefixes = shuffled(mixedPrefixes(count), below);
  const groups: RouteGroup[] = [];
  for (let at = 0; at < count; ) {
    const size = 1 + below(9);
    const attributes = attributesOf({
      nextHop,
      // The origin's AS number makes each set a different one.
      path: [...Array.from({ length: 1 + below(5) }, () => 1000 + below(60_000)), 200_000 + groups.length],
      communities: Array.from(
        { length: [0, 0, 1, 2, 4, 8][below(6)] ?? 0 },
        () => (1 + below(64_000)) * 65_536 + below(65_536),
      ),
      ...(below(10) < 3 ? { med: below(200) } : {}),
    });
    groups.push({ attributes, prefixes: prefixes.slice(at, at + size) });
    at += size;
  }
  return groups;
}

/** From large to small, so that no space is lost to alignment. */
function mixedPrefixes(count: number): PrefixNumber[] {
  const prefixes: PrefixNumber[] = [];
  let address = 2 ** 24;
  for (const [length, perMille] of shares) {
    const upTo = length === 32 ? count : prefixes.length + Math.floor((count * perMille) / 1000);
    while (prefixes.length < upTo) {
      while (reserved.has(Math.floor(address / 2 ** 24))) address = (Math.floor(address / 2 ** 24) + 1) * 2 ** 24;
      if (address >= 224 * 2 ** 24) throw new RangeError(`${count} prefixes do not fit into unicast space`);
      prefixes.push(prefixNumber(address, length));
      address += 2 ** (32 - length);
    }
  }
  return prefixes;
}

/** Fisher and Yates. */
function shuffled(values: PrefixNumber[], below: (bound: number) => number): PrefixNumber[] {
  for (let i = values.length - 1; i > 0; i--) {
    const j = below(i + 1);
    const other = values[j] ?? 0;
    values[j] = values[i] ?? 0;
    values[i] = other;
  }
  return values;
}

/** Numbers from zero to a bound, the same ones for the same seed (xorshift). */
function randomBelow(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
}

interface AttributeValues {
  readonly path: readonly number[];
  readonly nextHop: number;
  readonly med?: number;
  readonly communities: readonly number[];
}

/** ORIGIN, AS_PATH, NEXT_HOP, MULTI_EXIT_DISC, LOCAL_PREF and COMMUNITIES as an internal peer sends them. */
function attributesOf({ path, nextHop, med, communities }: AttributeValues): Uint8Array {
  const w = new Writer(128);
  const octets = (...values: number[]) => {
    for (const value of values) w.u8(value);
  };
  const numbers = (values: readonly number[]) => {
    for (const value of values) w.u32(value);
  };
  octets(0x40, 1, 1, 0);
  if (path.length === 0) octets(0x40, 2, 0);
  else octets(0x40, 2, 2 + path.length * 4, 2, path.length);
  numbers(path);
  octets(0x40, 3, 4);
  numbers([nextHop]);
  if (med !== undefined) {
    octets(0x80, 4, 4);
    numbers([med]);
  }
  octets(0x40, 5, 4);
  numbers([100]);
  if (communities.length > 0) octets(0xc0, 8, communities.length * 4);
  numbers(communities);
  return w.finish();
}

/** UPDATEs that announce the routes, each attribute set packed into as few as possible. */
export function announcements(groups: readonly RouteGroup[]): Uint8Array {
  const w = new Writer(1 << 20);
  for (const group of groups) packed(w, group);
  return w.finish();
}

/** UPDATEs that take the prefixes back. */
export function withdrawals(groups: readonly RouteGroup[]): Uint8Array {
  const w = new Writer(1 << 16);
  packed(w, { prefixes: groups.flatMap(({ prefixes }) => prefixes) });
  return w.finish();
}

function packed(w: Writer, { attributes, prefixes }: Partial<RouteGroup> & Pick<RouteGroup, 'prefixes'>): void {
  const room = maxMessageLength - headerLength - 4 - (attributes?.length ?? 0);
  for (let at = 0; at < prefixes.length; ) {
    const start = w.length;
    for (let i = 0; i < 4; i++) w.u32(0xffffffff);
    w.u16(0);
    w.u8(messageTypes.update);
    w.u16(0);
    if (attributes) {
      w.u16(attributes.length);
      w.bytes(attributes);
    }
    const from = w.length;
    for (let prefix = prefixes[at]; prefix !== undefined; prefix = prefixes[++at]) {
      const octets = Math.ceil(lengthOf(prefix) / 8);
      if (w.length - from + 1 + octets > room) break;
      w.u8(lengthOf(prefix));
      for (let i = 0; i < octets; i++) w.u8(addressOf(prefix) >>> (24 - 8 * i));
    }
    if (!attributes) {
      w.patch16(start + headerLength, w.length - from);
      w.u16(0);
    }
    w.patch16(start + 16, w.length - start);
  }
}

/** Every tenth route with its attributes. */
export function everyTenth(groups: readonly RouteGroup[]): RouteGroup[] {
  let before = 0;
  return groups.flatMap(({ attributes, prefixes }) => {
    const taken = prefixes.filter((_, i) => (before + i) % 10 === 0);
    before += prefixes.length;
    return taken.length > 0 ? [{ attributes, prefixes: taken }] : [];
  });
}

export function countOf(groups: readonly RouteGroup[]): number {
  return groups.reduce((sum, { prefixes }) => sum + prefixes.length, 0);
}

/** A sum over the prefixes, whatever their order; table.c of the tester computes the same of what it received. */
export function digestOf(groups: readonly RouteGroup[]): number {
  let sum = 0;
  for (const { prefixes } of groups)
    for (const prefix of prefixes)
      sum = (sum + Math.imul(addressOf(prefix) ^ Math.imul(lengthOf(prefix), 0x9e3779b1), 0x85ebca6b)) >>> 0;
  return sum;
}
