import { type Cidr, hostCidr, ipFromNumber, parseIp } from '../model/address.ts';
import { type PrefixId, PrefixTable } from '../model/prefixes.ts';
import { AttributeInterner } from './intern.ts';
import { UpdatePacker } from './packing.ts';
import type { Attributes } from './wire/attributes.ts';
import { maxMessageLength } from './wire/framing.ts';

/** How much is rehearsed. */
export interface Rehearsed {
  readonly prefixes: number;
  /** Times that all prefixes are told, every other time with few that share attributes. */
  readonly rounds: number;
  /** Prefixes that are told and withdrawn by themselves. */
  readonly lone: number;
}

/**
 * What a peer tells in a rehearsal, in pieces: announcements with few and with many sets of attributes, withdrawals of
 * all and of a tenth, several times, and then single prefixes that come and go; at last all are told.
 */
export function* rehearsedUpdates({ prefixes: count, rounds, lone }: Rehearsed): Generator<Uint8Array> {
  const interner = new AttributeInterner();
  const prefixes = new PrefixTable(4);
  const packer = new UpdatePacker(4, { fourOctetAs: true, external: false }, maxMessageLength, prefixes, interner);
  const all = Array.from({ length: count }, (_, i) => prefixes.internCidr(prefix(i)));
  const announce = (some: readonly PrefixId[], i: number) =>
    packer.announce(interner.intern(attributesOf(i)), { prefixes: some, length: some.length });
  const withdraw = (some: readonly PrefixId[]) => packer.withdraw({ prefixes: some, length: some.length });
  const tenth = all.filter((_, i) => i % 10 === 0);
  for (let round = 0; round < rounds; round++) {
    const share = round % 2 === 0 ? all.length : 8;
    for (let from = 0; from < all.length; from += share) announce(all.slice(from, from + share), from);
    yield* packer.take();
    withdraw(tenth);
    yield* packer.take();
    announce(tenth, 0);
    yield* packer.take();
    if (round % 2 === 0) continue;
    withdraw(all);
    yield* packer.take();
  }
  for (let i = 0; i < lone; i++) {
    announce(all.slice(0, 1), 0);
    yield* packer.take();
    withdraw(all.slice(0, 1));
    yield* packer.take();
  }
  announce(all, 0);
  yield* packer.take();
}

function prefix(i: number): Cidr {
  return hostCidr(ipFromNumber(0x0a800000n + BigInt(i), 4));
}

function attributesOf(i: number): Attributes {
  const asns = Array.from({ length: 1 + (i % 5) }, (_, at) => 65001 + at);
  const med = i % 3 === 0 ? { med: i } : {};
  const communities = i % 4 === 0 ? {} : { communities: [i + 1] };
  return {
    origin: 'igp',
    asPath: [{ type: 'sequence', asns }],
    nextHop: parseIp('192.0.2.1'),
    localPref: 100,
    ...med,
    ...communities,
  };
}
