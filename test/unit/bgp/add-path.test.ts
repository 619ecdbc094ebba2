import { describe, expect, test, vi } from 'vitest';
import { Reader, Writer } from '../../../src/base/bytes.ts';
import type { Monitor } from '../../../src/bgp/bmp/monitor.ts';
import type { ExportContext } from '../../../src/bgp/exporting.ts';
import { Intake } from '../../../src/bgp/intake.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { defaultLimits } from '../../../src/bgp/limits.ts';
import { tableDump } from '../../../src/bgp/mrt.ts';
import { acceptOpen, openOf, type SessionConfig } from '../../../src/bgp/negotiate.ts';
import { UpdatePacker } from '../../../src/bgp/packing.ts';
import { AdjRibIn, type Source } from '../../../src/bgp/rib.ts';
import { compileStandalone } from '../../../src/bgp/standalone.ts';
import { RouteTable } from '../../../src/bgp/table.ts';
import { readCapability, writeCapability } from '../../../src/bgp/wire/capabilities.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { type PathCidr, pathCidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { hostCidr, ipFromNumber, parseCidr, parseIp } from '../../../src/model/address.ts';
import { PrefixTable } from '../../../src/model/prefixes.ts';

/* Several paths of a prefix: RFC 7911. */

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
}

const hexOf = (octets: Uint8Array | undefined) => Buffer.from(octets ?? []).toString('hex');
const shared = parseCidr('192.0.2.0/24');
const attributes = { origin: 'igp', asPath: [], nextHop: parseIp('10.0.0.9'), localPref: 100 } as const;

describe('the capability', () => {
  test('as octets and as value', () => {
    const octets = bytes('45 08 0001 01 03 0002 01 01');
    const value = {
      capability: 'addPath',
      families: [
        { family: 4, receive: true, send: true },
        { family: 6, receive: true, send: false },
      ],
    } as const;
    expect(readCapability(new Reader(octets))).toEqual(value);
    const w = new Writer();
    writeCapability(w, value);
    expect(w.finish()).toEqual(octets);
  });

  test('unknown families and ways say nothing; a length that cuts one off is refused', () => {
    expect(readCapability(new Reader(bytes('45 0c 0001 80 03 0001 01 04 0002 01 02')))).toEqual({
      capability: 'addPath',
      families: [{ family: 6, receive: false, send: true }],
    });
    expect(() => readCapability(new Reader(bytes('45 03 0001 01')))).toThrow('capability.length');
  });
});

describe('negotiation', () => {
  const config: SessionConfig = {
    asn: 64512,
    identifier: parseIp('10.0.0.1'),
    peerAsn: 64512,
    families: [4, 6],
    holdSeconds: 90,
    restart: { restarted: false, restartSeconds: 0, preserved: false },
    initiative: 'dial',
    connectRetrySeconds: 1,
    idleHoldSeconds: 1,
  };
  const theirs: SessionConfig = { ...config, identifier: parseIp('10.0.0.2') };
  const both = { receive: true, send: true };

  test.each([
    ['both want all', both, both, [4, 6], [4, 6]],
    ['the peer only tells', both, { receive: false, send: true }, [4, 6], undefined],
    ['the peer only hears', both, { receive: true, send: false }, undefined, [4, 6]],
    ['both only tell', { receive: false, send: true }, { receive: false, send: true }, undefined, undefined],
    ['we want nothing', undefined, both, undefined, undefined],
    ['the peer wants nothing', both, undefined, undefined, undefined],
  ])('%s', (_, ours, other, received, sent) => {
    const open = openOf({ ...theirs, ...(other ? { addPath: other } : {}) });
    const { pathsReceived, pathsSent } = acceptOpen(open, { ...config, ...(ours ? { addPath: ours } : {}) });
    expect([pathsReceived, pathsSent]).toEqual([received, sent]);
  });

  test('only of families that both speak', () => {
    const open = openOf({ ...theirs, families: [6], addPath: both });
    expect(acceptOpen(open, { ...config, addPath: both })).toMatchObject({ pathsReceived: [6], pathsSent: [6] });
  });
});

describe('UPDATE messages', () => {
  test('announce and withdraw paths by their identifiers', () => {
    const interner = new AttributeInterner();
    const prefixes = new PrefixTable(4);
    const packer = new UpdatePacker(4, { fourOctetAs: true, external: false }, 4096, prefixes, interner);
    const id = prefixes.internCidr(shared);
    packer.withdraw({ length: 1, prefixes: [id], paths: [0x01020304] });
    expect(packer.announce(interner.intern(attributes), { length: 2, prefixes: [id, id], paths: [7, 9] })).toBe(true);
    expect(hexOf(packer.take()[0]).replaceAll(/f{32}/g, '|')).toBe(
      [
        '|001f02 0008 0102030418c00002 0000',
        '|003c02 0000 0015 40010100 400200 400304 0a000009 400504 00000064',
        '0000000718c00002 0000000918c00002',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  test('identifiers are read where they were agreed on, and taken as prefixes elsewhere', () => {
    const body = bytes('0008 0102030418c00002 0000');
    const codec = { fourOctetAs: true, external: false };
    const families = new Set([4 as const]);
    const [block] = readUpdate(body, { ...codec, pathsReceived: [4] }, families).withdrawn;
    expect(block && pathCidrsOf(block)).toEqual([{ prefix: shared, pathId: 0x01020304 }]);
    expect(() => readUpdate(body, { ...codec, pathsReceived: [6] }, families)).not.toThrow();
  });

  test.each(['0003 010203 0000', '0004 01020304 0000', '0006 01020304 1800 0000', '0005 01020304 21 0000'])(
    'an identifier or prefix that is cut off or too long ends the session: %s',
    (hex) => {
      const codec = { fourOctetAs: true, external: false, pathsReceived: [4 as const] };
      expect(() => readUpdate(bytes(hex), codec, new Set([4 as const]))).toThrow('update.withdrawn');
    },
  );
});

test('stations are told of paths with the identifiers of the peer, which their OPENs announce', () => {
  const interner = new AttributeInterner();
  const nothing = () => undefined;
  const deps = { schedule: nothing, interner, selected: nothing, settled: nothing, oversized: nothing };
  const table = new RouteTable(4, deps, false);
  const self = parseIp('10.0.0.1');
  const source = { name: 'peer', kind: 'ibgp', address: parseIp('10.0.0.2'), identifier: self } as const;
  const told: [string, readonly PathCidr[]][] = [];
  const monitor: Monitor = {
    active: true,
    wantsReceived: false,
    up: nothing,
    down: nothing,
    received: nothing,
    announced: (_name, _family, _attributes, prefixes) => told.push(['announced', prefixes]),
    withdrawn: (_name, _family, prefixes) => {
      if (prefixes.length > 0) told.push(['withdrawn', prefixes]);
    },
    swept: nothing,
    endOfRib: nothing,
  };
  const adj = new AdjRibIn(source, table.rib);
  const context = { interner, tables: { 4: table, 6: table }, log: { warn: nothing } as never, monitor };
  const intake = new Intake(source, new Map([[4, adj]]), context);
  const rules = {
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
  intake.open({ context: rules, filters: new Map() }, [4]);
  const block = (hex: string) => ({ family: 4 as const, octets: bytes(hex), paths: true as const });
  const one = block('00000000 18c00002 00000005 18c00002');
  intake.update({ withdrawn: [], announced: [{ block: one, attributes }], faults: [] }, {});
  expect(adj.count).toBe(2);
  intake.update({ withdrawn: [block('00000005 18c00002')], announced: [], faults: [] }, {});
  expect(adj.count).toBe(1);
  expect(told).toEqual([
    ['announced', [0, 5].map((pathId) => ({ prefix: shared, pathId }))],
    ['withdrawn', [{ prefix: shared, pathId: 5 }]],
  ]);
});

test('an MRT dump names the paths of a prefix that has several: RFC 8050', () => {
  const source = { name: 'tor', kind: 'ibgp', identifier: parseIp('10.0.0.2') } as const;
  const peer = { name: 'tor', identifier: source.identifier, address: source.identifier, asn: 64512 };
  const candidates = [3, 4].map((pathId) => ({ source, attributes, stale: false, pathId }));
  const routes = [{ prefix: shared, candidates }];
  const [, record] = tableDump({ seconds: 0, identifier: parseIp('10.0.0.1'), peers: [peer], routes });
  const entry = (pathId: string) => `0000 00000000 ${pathId} 0015 40010100 400200 4003040a000009 40050400000064`;
  expect(hexOf(record)).toBe(
    ['00000000 000d 0008 0000004c', '00000000 18c00002 0002', entry('00000003'), entry('00000004')]
      .join('')
      .replaceAll(' ', ''),
  );
});

describe('the option of a neighbour', () => {
  const compiled = (addPath: unknown) =>
    compileStandalone(
      { asn: 64512, routerId: '10.0.0.1', neighbors: [{ address: '10.0.0.2', asn: 64512, addPath }] },
      () => '',
    );

  test.each([
    [{ send: 'all' }, { send: 'all', receive: false }],
    [
      { send: 'best 3', receive: true },
      { send: 3, receive: true },
    ],
    [{ receive: true }, { receive: true }],
  ])('%j', (written, meant) => {
    const result = compiled(written);
    expect('setup' in result && result.setup.config.peers[0]?.addPath).toEqual(meant);
  });

  test.each([{ send: 'best 1' }, { send: 'some' }, { send: 2 }, { receive: 'yes' }, { recieve: true }])(
    'not %j',
    (written) => {
      const result = compiled(written);
      expect('problems' in result && result.problems.map(({ path }) => path.slice(0, 3))).toEqual([
        ['neighbors', 0, 'addPath'],
      ]);
    },
  );
});

describe('peers that are told several paths', () => {
  const family = 4;
  const context: ExportContext = {
    family,
    asn: 64512,
    external: false,
    fourOctetAs: true,
    self: parseIp('10.9.0.200'),
    nextHopMode: 'keep',
    reflection: { clusterId: parseIp('1.1.1.1'), client: true },
    paths: 'all',
  };

  function source(i: number): Source {
    const address = parseIp(`10.9.0.${i}`);
    return { name: `peer ${i}`, kind: 'ibgp', address, client: true, identifier: address };
  }

  /** @param now absent: slices have no end */
  function tableOf(now?: () => number) {
    const work: (() => void)[] = [];
    const interner = new AttributeInterner();
    const nothing = () => undefined;
    const deps = { interner, selected: nothing, wanted: () => false, settled: nothing, oversized: nothing };
    const schedule = (next: () => void) => void work.push(next);
    const table = new RouteTable(family, { ...deps, schedule, ...(now ? { now } : {}) }, false);
    const tell = (i: number, count: number) => {
      const adj = new AdjRibIn(source(i), table.rib);
      const id = interner.intern({ ...attributes, localPref: 100 + i });
      for (let n = 0; n < count; n++)
        adj.announce(table.rib.prefixes.internCidr(hostCidr(ipFromNumber(0x0a000000n + BigInt(n), 4))), id, 1);
    };
    /** One slice. */
    const turn = () => {
      const [next] = work.splice(0, 1);
      next?.();
      return next !== undefined;
    };
    return { table, tell, turn };
  }

  function listen(table: RouteTable, i: number): Uint8Array[] {
    const heard: Uint8Array[] = [];
    const send = (chunks: readonly Uint8Array[]) => void heard.push(...chunks);
    table.join({ source: source(i), send, writable: () => true }, context);
    return heard;
  }

  test('share one encoding of what changes', () => {
    const { table, tell, turn } = tableOf();
    const [one, two] = [listen(table, 8), listen(table, 9)];
    while (turn());
    one.length = 0;
    two.length = 0;
    tell(1, 100);
    tell(2, 100);
    while (turn());
    expect(one.length).toBeGreaterThan(0);
    for (const [i, chunk] of one.entries()) expect(two[i], 'the same octets, not equal ones').toBe(chunk);
  });

  test('are told of a whole table in slices, and joining or asking for it again looks at none of it', () => {
    let time = 0;
    // Every slice is over at the first look at the clock.
    const { table, tell, turn } = tableOf(() => (time += 1000));
    tell(1, 12_000);
    tell(2, 12_000);
    listen(table, 8);
    while (turn());
    const retained = vi.spyOn(table.rib.prefixes, 'retain');
    const heard = listen(table, 9);
    table.refresh(source(9));
    expect(retained).not.toHaveBeenCalled();
    const slices: number[] = [];
    while (turn()) {
      slices.push(retained.mock.calls.length);
      retained.mockClear();
    }
    expect(Math.max(...slices)).toBeLessThanOrEqual(4097);
    expect(slices.reduce((sum, slice) => sum + slice, 0)).toBe(24_000);
    const frames = heard.flatMap((chunk) => [...messagesOf(chunk)]);
    const paths = frames.flatMap(
      (body) => readUpdate(body, { ...context, pathsReceived: [4] }, new Set([4])).announced,
    );
    expect(paths.reduce((sum, { block }) => sum + pathCidrsOf(block).length, 0)).toBe(24_000);
  });

  function* messagesOf(chunk: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < chunk.length; ) {
      const frame = readFrame(chunk, at) ?? expect.fail('incomplete');
      yield frame.body;
      at += frame.length;
    }
  }
});
