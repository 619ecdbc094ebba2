import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide } from '../../../src/bgp/decision.ts';
import { type ExportContext, exported } from '../../../src/bgp/exporting.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { AdjRibIn, type Candidate, type Source } from '../../../src/bgp/rib.ts';
import { RouteTable } from '../../../src/bgp/table.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { cidrsOf, eachPrefix, type PrefixBlock } from '../../../src/bgp/wire/nlri.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { type Cidr, type Family, parseCidr, parseIp } from '../../../src/model/address.ts';

const families: ReadonlySet<Family> = new Set<Family>([4, 6]);

/** The prefixes of a block with their path identifiers. */
function pathsOf(block: PrefixBlock): { readonly prefix: Cidr; readonly pathId: number }[] {
  const ids: number[] = [];
  eachPrefix(block, (_octets, _at, _length, pathId) => ids.push(pathId));
  return cidrsOf(block).map((prefix, i) => ({ prefix, pathId: ids[i] ?? 0 }));
}

/** A peer that tells paths with identifiers, and is told as many as it takes. */
class Station {
  readonly source: Source;
  readonly adj: AdjRibIn;
  readonly heard = new Map<string, { readonly prefix: Cidr; readonly attributes: Attributes }>();
  readonly context: ExportContext;
  marks = 0;
  blocked = false;

  constructor(
    readonly index: number,
    private readonly table: RouteTable,
    family: Family,
    paths: ExportContext['paths'],
  ) {
    const address = parseIp(family === 4 ? `10.9.0.${index}` : `fd00::${index}`);
    this.source = { name: `peer${index}`, kind: 'ibgp', address, client: true, identifier: parseIp(`10.9.0.${index}`) };
    this.adj = new AdjRibIn(this.source, table.rib);
    this.context = {
      family,
      asn: 64512,
      external: false,
      fourOctetAs: true,
      self: parseIp(family === 4 ? '10.9.0.200' : 'fd00::200'),
      nextHopMode: 'keep',
      reflection: { clusterId: parseIp('1.1.1.1'), client: true },
      ...(paths === undefined ? {} : { paths }),
    };
  }

  join(): void {
    this.heard.clear();
    this.marks = 0;
    const receiver = {
      source: this.source,
      send: (chunks: readonly Uint8Array[]) => {
        for (const chunk of chunks) this.#hear(chunk);
      },
      writable: () => !this.blocked,
    };
    this.table.join(receiver, this.context);
  }

  #hear(chunk: Uint8Array): void {
    const { family, paths } = this.context;
    const codec = { fourOctetAs: true, external: false, ...(paths === undefined ? {} : { pathsReceived: [family] }) };
    for (let at = 0; at < chunk.length; ) {
      const frame = readFrame(chunk, at) ?? expect.fail('incomplete');
      at += frame.length;
      const update = readUpdate(frame.body, codec, families);
      expect(update.faults).toEqual([]);
      if (update.endOfRib !== undefined) this.marks++;
      for (const { prefix, pathId } of update.withdrawn.flatMap(pathsOf)) {
        expect(this.heard.delete(`${prefix} ${pathId}`), 'withdrawn without having been told').toBe(true);
      }
      for (const { block, attributes } of update.announced)
        for (const { prefix, pathId } of pathsOf(block)) this.heard.set(`${prefix} ${pathId}`, { prefix, attributes });
    }
  }
}

const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('announce' as const),
      peer: fc.nat({ max: 3 }),
      prefix: fc.nat({ max: 4 }),
      path: fc.nat({ max: 2 }),
      pref: fc.nat({ max: 2 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('withdraw' as const),
      peer: fc.nat({ max: 3 }),
      prefix: fc.nat({ max: 4 }),
      path: fc.nat({ max: 2 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('block' as const, 'rejoin' as const, 'refresh' as const, 'stale' as const, 'sweep' as const),
      peer: fc.nat({ max: 3 }),
    }),
  },
);

/** What a station must have heard of a prefix: its share of the paths, best first, without its own. */
function expectedOf({ context, source }: Station, candidates: readonly Candidate[]): Attributes[] {
  const most = context.paths === undefined ? 1 : context.paths === 'all' ? candidates.length : context.paths;
  const left = [...candidates];
  const chosen: Candidate[] = [];
  while (left.length > 0 && chosen.length < most) {
    const best = decide(left)?.best ?? expect.fail('no best path');
    chosen.push(...left.splice(left.indexOf(best), 1));
  }
  return chosen.flatMap((candidate) => (candidate.source === source ? [] : (exported(candidate, context) ?? [])));
}

function summary(prefix: Cidr, { nextHop, asPath, localPref, originatorId, clusterList }: Attributes): string {
  return JSON.stringify([prefix, nextHop, asPath, localPref, originatorId, clusterList]);
}

test.each([4, 6] as const)('IPv%i: peers hear of as many paths as they take, and of the end of each', (family) => {
  const prefixes = Array.from({ length: 5 }, (_, i) => parseCidr(family === 4 ? `10.0.${i}.0/24` : `fd01:${i}::/64`));
  fc.assert(
    fc.property(fc.array(command, { minLength: 20, maxLength: 100 }), (commands) => {
      const work: (() => void)[] = [];
      const interner = new AttributeInterner();
      const nothing = () => undefined;
      const table = new RouteTable(
        family,
        {
          schedule: (next) => void work.push(next),
          interner,
          selected: nothing,
          wanted: () => false,
          settled: nothing,
          oversized: () => expect.fail('too long'),
        },
        false,
      );
      const turn = () => {
        for (let next = work.shift(); next; next = work.shift()) next();
      };
      const takes = ['all', 2, 'all', undefined] as const;
      const stations = takes.map((paths, index) => new Station(index + 1, table, family, paths));
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
            if (known !== undefined) station.adj.withdraw(known, item.path);
            continue;
          }
          const nextHop = parseIp(family === 4 ? `10.9.1.${item.path}` : `fd02::${item.path}`);
          const asPath = [{ type: 'sequence' as const, asns: [65000 + station.index] }];
          const attributes = interner.intern({ origin: 'igp', asPath, nextHop, localPref: item.pref });
          station.adj.announce(table.rib.prefixes.internCidr(prefix), attributes, item.path);
        } else if (item.do === 'block') station.blocked = !station.blocked;
        else if (item.do === 'rejoin') {
          table.leave(station.source);
          station.join();
        } else if (item.do === 'refresh') table.refresh(station.source);
        else if (item.do === 'stale') station.adj.markStale();
        else station.adj.sweep();
      }

      for (const station of stations) station.blocked = false;
      table.resume();
      turn();
      const routes = [...table.routes()];
      for (const station of stations) {
        const heard = [...station.heard.values()].map(({ prefix, attributes }) => summary(prefix, attributes));
        const expected = routes.flatMap(({ prefix, candidates }) =>
          expectedOf(station, candidates).map((attributes) => summary(prefix, attributes)),
        );
        expect(heard.sort()).toEqual(expected.sort());
        expect(station.marks).toBe(1);
        expect(table.advertised(station.source)).toBe(heard.length);
        const shown = [...table.advertisements(station.source)];
        expect(shown.map(({ prefix, pathId = 0 }) => `${prefix} ${pathId}`).sort()).toEqual(
          [...station.heard.keys()].sort(),
        );
      }
      for (const station of stations) {
        station.adj.clear();
        table.leave(station.source);
      }
      turn();
      expect([interner.count, table.rib.prefixes.count]).toEqual([0, 0]);
    }),
    { numRuns: 300 },
  );
});

test('a path keeps its identifier when its attributes change, and when other paths come and go', () => {
  const interner = new AttributeInterner();
  const work: (() => void)[] = [];
  const nothing = () => undefined;
  const deps = { interner, selected: nothing, settled: nothing, oversized: nothing };
  const table = new RouteTable(4, { ...deps, schedule: (next) => void work.push(next) }, false);
  const turn = () => {
    for (let next = work.shift(); next; next = work.shift()) next();
  };
  const [one, two, listener] = [1, 2, 3].map((i) => new Station(i, table, 4, 'all'));
  if (!one || !two || !listener) return expect.fail('three stations');
  listener.join();
  const prefix = table.rib.prefixes.internCidr(parseCidr('10.0.0.0/24'));
  const told = (localPref: number) =>
    interner.intern({ origin: 'igp', asPath: [], nextHop: parseIp('10.9.1.1'), localPref });
  const idOf = (localPref: number) =>
    [...listener.heard].find(([, { attributes }]) => attributes.localPref === localPref)?.[0];
  one.adj.announce(prefix, told(100), 7);
  two.adj.announce(prefix, told(200), 7);
  turn();
  const before = idOf(200);
  expect(listener.heard.size).toBe(2);
  two.adj.announce(prefix, told(300), 7);
  one.adj.withdraw(prefix, 7);
  turn();
  expect(listener.heard.size).toBe(1);
  expect(idOf(300)).toBe(before);
});
