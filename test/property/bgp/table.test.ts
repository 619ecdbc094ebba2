import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide } from '../../../src/bgp/decision.ts';
import type { ExportContext } from '../../../src/bgp/exporting.ts';
import { exported } from '../../../src/bgp/exporting.ts';
import { compileFilter, type FilterRule, prefixOctets } from '../../../src/bgp/filters.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { AdjRibIn, type Candidate, type Source } from '../../../src/bgp/rib.ts';
import { RouteTable } from '../../../src/bgp/table.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { type Frame, readFrame } from '../../../src/bgp/wire/framing.ts';
import { readRefresh } from '../../../src/bgp/wire/message.ts';
import { cidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { type Cidr, type Family, parseCidr, parseIp } from '../../../src/model/address.ts';

const both: ReadonlySet<Family> = new Set<Family>([4, 6]);
const prefixes = Array.from({ length: 12 }, (_, i) => parseCidr(`10.0.${i}.0/24`));

/** A peer of the table: tells routes, and believes what it is told. */
class Station {
  readonly source: Source;
  readonly adj: AdjRibIn;
  readonly told = new Map<Cidr, Candidate>();
  readonly heard = new Map<Cidr, Attributes>();
  marks = 0;
  begun = 0;
  ended = 0;
  blocked = false;

  constructor(
    readonly index: number,
    public context: ExportContext,
    private readonly table: RouteTable,
  ) {
    const kind = context.external ? 'ebgp' : 'ibgp';
    const address = parseIp(`10.9.0.${index}`);
    const client = context.reflection?.client === true;
    this.source = { name: `peer${index}`, kind, address, client, identifier: address };
    this.adj = new AdjRibIn(this.source, table.rib);
  }

  join(): void {
    this.heard.clear();
    this.marks = 0;
    this.begun = 0;
    this.ended = 0;
    const send = (messages: readonly Uint8Array[]) => this.#hear(messages);
    this.table.join({ source: this.source, send, writable: () => !this.blocked }, this.context);
  }

  #hear(messages: readonly Uint8Array[]): void {
    for (const { body, type } of messages.flatMap(framesOf)) {
      if (type === 'refresh') {
        if (readRefresh(body)?.subtype === 'begin') this.begun++;
        else this.ended++;
        expect(this.begun - this.ended, 'marks nest').toBeOneOf([0, 1]);
        continue;
      }
      const update = readUpdate(body, this.context, both);
      expect(update.faults).toEqual([]);
      if (update.endOfRib !== undefined) this.marks++;
      for (const prefix of update.withdrawn.flatMap(cidrsOf)) this.heard.delete(prefix);
      for (const { block, attributes } of update.announced) {
        for (const prefix of cidrsOf(block)) this.heard.set(prefix, attributes);
      }
    }
  }
}

function framesOf(chunk: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < chunk.length; ) {
    const frame = readFrame(chunk, at) ?? expect.fail('incomplete');
    frames.push(frame);
    at += frame.length;
  }
  return frames;
}

const internal: ExportContext = {
  family: 4,
  asn: 64512,
  external: false,
  fourOctetAs: true,
  self: parseIp('10.9.0.200'),
  nextHopMode: 'keep',
};

const contexts: readonly ExportContext[] = [
  { family: 4, asn: 64512, external: true, fourOctetAs: true, self: parseIp('10.9.0.200'), nextHopMode: 'self' },
  { family: 4, asn: 64512, external: true, fourOctetAs: true, self: parseIp('10.9.0.200'), nextHopMode: 'self' },
  { ...internal, reflection: { clusterId: parseIp('1.1.1.1'), client: true } },
  { ...internal, reflection: { clusterId: parseIp('1.1.1.1'), client: false } },
  { ...internal, reflection: { clusterId: parseIp('1.1.1.1'), client: false } },
];

const filter = compileFilter(
  [
    { prefix: rangeOf('10.0.0.0/22'), action: 'reject', operations: [] },
    { prefix: rangeOf('10.0.4.0/22'), action: 'accept', operations: [{ do: 'prepend', asns: [64999] }] },
  ],
  { family: 4, external: true, deviceOf: () => '' },
);

function rangeOf(text: string): NonNullable<FilterRule['prefix']> {
  return { cidr: parseCidr(text), match: 'in', negated: false, least: 0, most: 32 };
}

function toldOf(prefix: Cidr, best: Candidate, context: ExportContext): Attributes | undefined {
  const { octets, length } = prefixOctets(prefix);
  const verdict = context.filter?.judge(octets, 0, length, best.attributes, best.source);
  return verdict === 'reject' ? undefined : exported(best, context, verdict);
}

const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('announce' as const),
      peer: fc.nat({ max: 4 }),
      prefix: fc.nat({ max: 11 }),
      pref: fc.nat({ max: 2 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('withdraw' as const),
      peer: fc.nat({ max: 4 }),
      prefix: fc.nat({ max: 11 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'block' as const,
        'unblock' as const,
        'rejoin' as const,
        'refresh' as const,
        'filter' as const,
        'unfilter' as const,
        'stale' as const,
        'sweep' as const,
      ),
      peer: fc.nat({ max: 4 }),
    }),
  },
);

test('whatever the order of events, every peer has heard what follows from the routes now known', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
      const work: (() => void)[] = [];
      const chosen = new Map<Cidr, Candidate>();
      const interner = new AttributeInterner();
      const table = new RouteTable(
        4,
        {
          schedule: (next) => void work.push(next),
          interner,
          selected: (changes) => {
            for (const { prefix, decision } of changes) {
              if (decision) chosen.set(prefix, decision.best);
              else chosen.delete(prefix);
            }
          },
          settled: () => undefined,
          oversized: () => expect.fail('too long'),
        },
        false,
      );
      const turn = () => {
        for (let next = work.shift(); next; next = work.shift()) next();
      };
      const stations = contexts.map((context, index) => new Station(index + 1, context, table));
      for (const station of stations) station.join();

      for (const item of commands) {
        if (item.do === 'turn') {
          turn();
          continue;
        }
        const station = stations[item.peer] ?? expect.fail('no such peer');
        if (item.do === 'announce' || item.do === 'withdraw') {
          const prefix = prefixes[item.prefix] ?? expect.fail('no such prefix');
          if (item.do === 'withdraw') {
            const known = table.rib.prefixes.findCidr(prefix);
            if (known !== undefined) station.adj.withdraw(known);
            continue;
          }
          const id = table.rib.prefixes.internCidr(prefix);
          const nextHop = parseIp(`10.9.0.${station.index}`);
          const asPath = [{ type: 'sequence' as const, asns: [65000 + station.index] }];
          station.adj.announce(id, interner.intern({ origin: 'igp', asPath, nextHop, localPref: item.pref }));
        } else if (item.do === 'block') station.blocked = true;
        else if (item.do === 'unblock') {
          station.blocked = false;
          table.resume();
        } else if (item.do === 'rejoin') {
          table.leave(station.source);
          station.join();
        } else if (item.do === 'filter' || item.do === 'unfilter') {
          const { filter: _, ...plain } = station.context;
          station.context = item.do === 'filter' && filter ? { ...plain, filter } : plain;
          table.change(station.source, station.context);
        } else if (item.do === 'refresh') table.refresh(station.source, station.index > 1);
        else if (item.do === 'stale') station.adj.markStale();
        else station.adj.sweep();
      }

      for (const station of stations) station.blocked = false;
      table.resume();
      turn();
      const fresh = new Map([...table.routes()].map(({ prefix, candidates }) => [prefix, decide(candidates)?.best]));
      // That a path is stale by now decides nothing, and nobody is told.
      const fresher = ([prefix, best]: [Cidr, Candidate | undefined]) =>
        [prefix, best && { ...best, stale: false }] as const;
      expect(new Map([...chosen].map(fresher))).toEqual(new Map([...fresh].map(fresher)));
      for (const { source, context, heard, marks, begun, ended } of stations) {
        expect(ended).toBe(begun);
        const expected = new Map<Cidr, Attributes>();
        for (const [prefix, best] of fresh) {
          const attributes = best && best.source !== source ? toldOf(prefix, best, context) : undefined;
          if (attributes) expected.set(prefix, attributes);
        }
        const comparable = (routes: ReadonlyMap<Cidr, Attributes>) =>
          [...routes]
            .map(([prefix, { nextHop, asPath, originatorId, clusterList }]) =>
              JSON.stringify([prefix, nextHop, asPath, originatorId, clusterList]),
            )
            .sort();
        expect(comparable(heard)).toEqual(comparable(expected));
        expect(table.advertised(source)).toBe(heard.size);
        expect(marks).toBe(1);
      }
      // Nothing is left once everybody is silent and gone.
      for (const station of stations) {
        station.adj.clear();
        table.leave(station.source);
      }
      turn();
      expect(table.rib.pending).toBe(0);
      expect([...table.routes()]).toEqual([]);
      expect(interner.count, 'attributes still kept').toBe(0);
      expect(table.rib.prefixes.count, 'prefixes still kept').toBe(0);
    }),
    { numRuns: 400 },
  );
});
