import type { Log } from '../base/log.ts';
import { hostCidr, ipFromNumber, parseIp } from '../model/address.ts';
import type { Monitor } from './bmp/monitor.ts';
import type { ExportContext } from './exporting.ts';
import { Intake } from './intake.ts';
import { AttributeInterner } from './intern.ts';
import { defaultLimits } from './limits.ts';
import { UpdatePacker } from './packing.ts';
import { AdjRibIn, type Source } from './rib.ts';
import { RouteTable } from './table.ts';
import type { Attributes } from './wire/attributes.ts';
import { maxMessageLength, readFrame } from './wire/framing.ts';
import { readUpdate } from './wire/update.ts';

const prefixCount = 2048;
const rounds = 12;
const codec = { fourOctetAs: true, external: false };
const families = new Set([4 as const]);
const nothing = () => undefined;

/**
 * Runs a table through routes that are never told to anybody, so that the code which every route passes is compiled
 * before the first session: a peer's first ten thousand routes would otherwise take several times as long. Takes some
 * dozens of milliseconds and leaves nothing behind.
 */
export function warmUp(log: Log): void {
  const work: (() => void)[] = [];
  const interner = new AttributeInterner();
  const deps = { schedule: (next: () => void) => void work.push(next), interner, selected: nothing };
  const table = new RouteTable(4, { ...deps, wanted: () => false, settled: nothing, oversized: nothing }, false);
  const sender = sourceOf(1);
  const adj = new AdjRibIn(sender, table.rib);
  const tables = { 4: table, 6: table };
  const intake = new Intake(sender, new Map([[4, adj]]), { interner, tables, log, monitor: nobody });
  intake.open({ context: importContext, filters: new Map() }, [4]);
  for (const source of [sender, sourceOf(2)])
    table.join({ source, send: nothing, writable: () => true }, exportContext);
  const turn = () => {
    for (let next = work.shift(); next; next = work.shift()) next();
  };
  for (const chunk of stream()) {
    for (let at = 0; at < chunk.length; ) {
      const frame = readFrame(chunk, at);
      if (!frame) break;
      at += frame.length;
      intake.update(readUpdate(frame.body, codec, families, interner), {});
    }
    turn();
  }
}

/** Announcements with few and with many sets of attributes, then withdrawals, several times. */
function* stream(): Generator<Uint8Array> {
  const interner = new AttributeInterner();
  const { prefixes } = new RouteTable(
    4,
    { schedule: nothing, interner, selected: nothing, settled: nothing, oversized: nothing },
    false,
  ).rib;
  const packer = new UpdatePacker(4, codec, maxMessageLength, prefixes, interner);
  const all = Array.from({ length: prefixCount }, (_, i) =>
    prefixes.internCidr(hostCidr(ipFromNumber(0x0a800000n + BigInt(i), 4))),
  );
  for (let round = 0; round < rounds; round++) {
    const share = round % 2 === 0 ? all.length : 8;
    for (let from = 0; from < all.length; from += share) {
      const some = all.slice(from, from + share);
      packer.announce(interner.intern(attributesOf(from)), { prefixes: some, length: some.length });
    }
    yield* packer.take();
    if (round % 2 === 0) continue;
    packer.withdraw({ prefixes: all, length: all.length });
    yield* packer.take();
  }
}

function attributesOf(i: number): Attributes {
  const asns = Array.from({ length: 1 + (i % 5) }, (_, at) => 65001 + at);
  const med = i % 3 === 0 ? { med: i } : {};
  return {
    origin: 'igp',
    asPath: [{ type: 'sequence', asns }],
    nextHop: parseIp('192.0.2.1'),
    localPref: 100,
    ...med,
    communities: [i + 1],
  };
}

function sourceOf(i: number): Source {
  const address = parseIp(`192.0.2.${i}`);
  return { name: `warm-up ${i}`, kind: 'ibgp', address, client: true, identifier: address };
}

const self = parseIp('192.0.2.200');
const importContext = {
  asns: [64512],
  allowedLocalAs: 0,
  identifier: self,
  clusterId: self,
  peerAsn: 64512,
  external: false,
  ownAddresses: new Set([self]),
  acceptDefault: false,
  limits: defaultLimits,
};

const exportContext: ExportContext = {
  family: 4,
  asn: 64512,
  ...codec,
  self,
  nextHopMode: 'auto',
  reflection: { clusterId: self, client: true },
};

const nobody: Monitor = {
  active: false,
  wantsReceived: false,
  up: nothing,
  down: nothing,
  received: nothing,
  announced: nothing,
  withdrawn: nothing,
  swept: nothing,
  endOfRib: nothing,
};
