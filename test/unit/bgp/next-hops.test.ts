import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { decide } from '../../../src/bgp/decision.ts';
import { explainLoss } from '../../../src/bgp/explain.ts';
import { maxHops, NextHops, tracksNextHops, type WayChanges } from '../../../src/bgp/next-hops.ts';
import type { Candidate } from '../../../src/bgp/rib.ts';
import type { FoundRoute } from '../../../src/kernel/rtnetlink/lookup.ts';
import { KernelError } from '../../../src/kernel/types.ts';
import { ipFromNumber, parseCidr, parseIp } from '../../../src/model/address.ts';
import type { Hop } from '../../../src/model/feed.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const log = createLog('test', 'silent');

function path(name: string, nextHop: string, extra: Partial<Candidate['attributes']> = {}, kind = 'ibgp'): Candidate {
  return {
    source: {
      name,
      kind,
      identifier: parseIp('10.0.0.1'),
      address: parseIp(nextHop),
      client: false,
    } as Candidate['source'],
    attributes: { origin: 'igp', asPath: [], nextHop: parseIp(nextHop), ...extra },
    stale: false,
  };
}

const over = (metric: number, device = 'eth0', length = 24): FoundRoute => ({ metric, device, length, local: false });

const costs = (byHop: Readonly<Record<string, number>>) => (candidate: Candidate) =>
  byHop[candidate.attributes.nextHop ?? ''] ?? 0;
const near = path('near', '10.0.0.2');
const far = path('far', '10.0.0.3');

test('the nearer next hop is preferred, and the reason says how near', () => {
  const decision = decide([far, near], costs({ '10.0.0.2': 10, '10.0.0.3': 20 })) ?? expect.fail('no decision');
  expect(decision.best).toBe(near);
  expect(decision.multipath).toEqual([near]);
  expect(decision.lost).toEqual([{ candidate: far, reason: 'igpMetric', metric: 20 }]);
  const [lost] = decision.lost;
  expect(lost && explainLoss(lost, decision)).toBe(
    'nearer next hop (lower metric of the route to it): 20, the best path has 10',
  );
});

test('equal metrics leave both to multipath, and what comes before the metric counts more', () => {
  expect(decide([far, near], costs({}))?.multipath).toHaveLength(2);
  const preferred = path('far', '10.0.0.3', { localPref: 200 });
  expect(decide([preferred, near], costs({ '10.0.0.3': 50 }))?.best).toBe(preferred);
});

test('a path whose next hop has no route takes no part; without any other there is no route', () => {
  const unreachable = costs({ '10.0.0.3': Number.POSITIVE_INFINITY });
  const better = path('far', '10.0.0.3', { localPref: 200 });
  expect(decide([better, near], unreachable)).toMatchObject({
    best: near,
    lost: [{ candidate: better, reason: 'nextHopUnreachable' }],
  });
  expect(decide([better], unreachable)).toBeUndefined();
  expect(decide([better])?.best).toBe(better);
});

test('next hops are asked for once, then every two seconds; those that changed are told', async () => {
  const clock = new ManualClock();
  const metrics = new Map<string, number>([['10.0.0.2', 10]]);
  const asked: string[] = [];
  const changes: Hop[][] = [];
  const hops = new NextHops({
    lookup: (hop) => {
      asked.push(hop);
      const metric = metrics.get(hop);
      return metric === undefined ? undefined : over(metric);
    },
    clock,
    log,
    changed: ({ hops: changed, own }) => {
      expect(own.size).toBe(0);
      changes.push([...changed]);
    },
  });
  hops.start();
  expect([near, far, near].map(hops.costOf)).toEqual([10, Number.POSITIVE_INFINITY, 10]);
  expect(hops.costOf(path('own', '10.0.0.9', {}, 'local'))).toBe(0);
  expect(asked).toEqual(['10.0.0.2', '10.0.0.3']);
  expect(hops.status()).toEqual({ known: 2, unreachable: ['10.0.0.3'] });
  await clock.advance(2000);
  expect(changes).toEqual([]);
  metrics.set('10.0.0.3', 5).delete('10.0.0.2');
  await clock.advance(2000);
  expect(changes).toEqual([['10.0.0.2', '10.0.0.3']]);
  expect([near, far].map(hops.costOf)).toEqual([Number.POSITIVE_INFINITY, 5]);
  hops.stop();
  await clock.advance(10_000);
  expect(asked).toHaveLength(6);
});

test('what cannot be found out counts as near, and what was known stays', async () => {
  const clock = new ManualClock();
  let broken = false;
  const hops = new NextHops({
    lookup: () => {
      if (broken) throw new KernelError('look up', 'ENOBUFS');
      return over(7);
    },
    clock,
    log,
    changed: () => expect.fail('nothing changed'),
  });
  hops.start();
  expect(hops.costOf(near)).toBe(7);
  broken = true;
  expect(hops.costOf(far)).toBe(0);
  await clock.advance(2000);
  expect(hops.costOf(near)).toBe(7);
  hops.stop();
});

test('more next hops than may be known push out the oldest', () => {
  const hops = new NextHops({ lookup: () => over(0), clock: new ManualClock(), log, changed: () => undefined });
  for (let i = 0n; i < BigInt(maxHops) + 10n; i++) hops.costOf(path('x', ipFromNumber(0x0b000000n + i, 4)));
  expect(hops.status().known).toBe(maxHops);
});

test('the device of a next hop, and of an own prefix that the kernel has a route to; changes of either are told', async () => {
  const clock = new ManualClock();
  const routes = new Map<string, FoundRoute>([
    ['10.0.0.2', over(10, 'eth0')],
    ['10.65.9.9', over(0, 'cali1', 32)],
    ['10.65.1.0', over(0, 'cali2', 32)],
  ]);
  const changes: WayChanges[] = [];
  const lookup = (hop: Hop) => routes.get(hop);
  const hops = new NextHops({ lookup, clock, log, changed: (changed) => changes.push(changed) });
  const own = path('own', '10.0.0.9', {}, 'local');
  const deviceOf = ({ source, attributes }: Candidate, prefix = '192.0.2.0/24') =>
    hops.deviceOf({ source, attributes, prefix: parseCidr(prefix) });
  const devices = () => [
    deviceOf(near),
    deviceOf(far),
    deviceOf(own, '10.65.9.9/32'),
    deviceOf(own, '10.65.1.0/26'),
    deviceOf({ ...near, source: { ...near.source, interface: 'eth7' }, attributes: { ...near.attributes, ...onLink } }),
  ];
  const onLink = { nextHop: parseIp('fe80::9') };
  hops.start();
  expect(devices()).toEqual(['eth0', '', 'cali1', '', 'eth7']);
  expect(hops.status()).toEqual({ known: 2, unreachable: ['10.0.0.3'] });
  routes.set('10.0.0.2', over(20, 'eth0'));
  await clock.advance(2000);
  expect(changes).toEqual([{ hops: new Set(['10.0.0.2']), moved: false, own: new Set() }]);
  routes.set('10.0.0.2', over(20, 'eth1'));
  routes.set('10.65.9.9', { ...over(0, 'lo', 32), local: true });
  await clock.advance(2000);
  expect(changes.slice(1)).toEqual([{ hops: new Set(['10.0.0.2']), moved: true, own: new Set(['10.65.9.9/32']) }]);
  expect(devices()).toEqual(['eth1', '', '', '', 'eth7']);
  hops.stop();
});

test('MARGAY_BGPNEXTHOPTRACKING', () => {
  const read = (text: string | undefined, otherwise: boolean) =>
    tracksNextHops({ MARGAY_BGPNEXTHOPTRACKING: text }, otherwise);
  expect([read(undefined, true), read('', false), read('False', true), read('true', false)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
  expect(() => read('maybe', true)).toThrow('MARGAY_BGPNEXTHOPTRACKING: "maybe"');
});
