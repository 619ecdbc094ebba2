import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { FeedTable } from '../../../src/felix/calc/feed.ts';
import { gatewayRoute } from '../../../src/felix/calc/route.ts';
import { FeedLines, parseFeedMessage } from '../../../src/felix/feed.ts';
import { StaleTimer } from '../../../src/felix/stale.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { type FeedMessage, hopParts } from '../../../src/model/feed.ts';

const hello = '{"type":"hello","version":1}';
const prefix = parseCidr('10.0.0.0/26');
const hop = parseIp('192.0.2.1');
const route: FeedMessage = { type: 'route', prefix, nextHops: [hop], source: 'ibgp' };

test('lines may be cut anywhere', () => {
  const text = `${hello}\n${JSON.stringify(route)}\n{"type":"endOfSnapshot"}\n`;
  for (let cut = 0; cut <= text.length; cut++) {
    const heard: FeedMessage[] = [];
    const lines = new FeedLines((message) => heard.push(message));
    lines.push(text.slice(0, cut));
    lines.push(text.slice(cut));
    expect(heard.map(({ type }) => type)).toEqual(['hello', 'route', 'endOfSnapshot']);
  }
});

test('a line without end is not kept for ever', () => {
  const lines = new FeedLines(() => expect.fail());
  expect(() => {
    for (let i = 0; i < 100; i++) lines.push('x'.repeat(1000));
  }).toThrow(InputError);
});

test('hello comes first', () => {
  expect(() => new FeedLines(() => undefined).push('{"type":"endOfSnapshot"}\n')).toThrow('"hello" first');
});

test.each([
  ['nonsense', '{'],
  ['no object', '[]'],
  ['null', 'null'],
  ['unknown type', '{"type":"routes"}'],
  ['another version', '{"type":"hello","version":2}'],
  ['no prefix', '{"type":"withdraw"}'],
  ['bad prefix', '{"type":"withdraw","prefix":"10.0.0.0/33"}'],
  ['no next hops', '{"type":"route","prefix":"10.0.0.0/26","nextHops":[],"source":"ibgp"}'],
  ['bad next hop', '{"type":"route","prefix":"10.0.0.0/26","nextHops":[1],"source":"ibgp"}'],
  [
    'a link-local next hop without its device',
    '{"type":"route","prefix":"10.0.0.0/26","nextHops":["fe80::1"],"source":"ibgp"}',
  ],
  ['a device after another', '{"type":"route","prefix":"10.0.0.0/26","nextHops":["192.0.2.1%eth0"],"source":"ibgp"}'],
  ['bad source', '{"type":"route","prefix":"10.0.0.0/26","nextHops":["192.0.2.1"],"source":"static"}'],
])('%s is refused', (_what, line) => {
  expect(() => parseFeedMessage(line)).toThrow(InputError);
});

test('what the new connection does not repeat goes at its end of snapshot', () => {
  const table = new FeedTable();
  const other = parseCidr('10.0.1.0/26');
  table.apply({ type: 'hello', version: 1 });
  table.apply(route);
  table.apply({ ...route, prefix: other });
  table.apply({ type: 'endOfSnapshot' });
  table.disconnected();
  table.apply({ type: 'hello', version: 1 });
  expect(table.apply(route)).toEqual([]);
  expect(table.apply({ type: 'endOfSnapshot' })).toEqual([other]);
});

test('adopted routes count as said before, and only those of ours with gateways', () => {
  const table = new FeedTable();
  const found = gatewayRoute(prefix, [{ gateway: hop, device: 'eth0' }]);
  const foreign = { ...gatewayRoute(parseCidr('10.9.0.0/16'), [{ gateway: hop }]), protocol: 4 };
  const local = gatewayRoute(parseCidr('10.0.0.1/32'), [{ device: 'cali1' }]);
  expect(table.adopt([found, foreign, local])).toEqual([prefix]);
  expect([...table.prefixes()]).toEqual([prefix]);
  expect([table.nextHops(prefix), table.isStale(prefix), table.staleCount]).toEqual([[hop], true, 1]);
  expect(table.dropStale()).toEqual([prefix]);
});

test('once the table was heard nothing is adopted', () => {
  const table = new FeedTable();
  table.apply({ type: 'hello', version: 1 });
  table.apply({ type: 'endOfSnapshot' });
  expect(table.adopt([gatewayRoute(prefix, [{ gateway: hop }])])).toEqual([]);
});

/** A clock whose time the test moves. */
function handClock() {
  let now = 0;
  const timers = new Set<{ at: number; action: () => void }>();
  return {
    monotonic: () => now,
    wall: () => new Date(now),
    after(milliseconds: number, action: () => void) {
      const timer = { at: now + milliseconds, action };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    pass(milliseconds: number) {
      now += milliseconds;
      for (const timer of [...timers]) if (timer.at <= now && timers.delete(timer)) timer.action();
    },
  };
}

test('the stale time runs only without a connection, and a feed that never completes does not stretch it', () => {
  const clock = handClock();
  let expired = 0;
  const timer = new StaleTimer(clock, 100, () => expired++);
  timer.start();
  clock.pass(60);
  timer.pause();
  clock.pass(1000);
  timer.start();
  clock.pass(39);
  expect(expired).toBe(0);
  clock.pass(1);
  expect(expired).toBe(1);
  timer.start();
  clock.pass(99);
  timer.clear();
  clock.pass(1000);
  expect(expired).toBe(1);
  timer.start();
  clock.pass(100);
  expect(expired).toBe(2);
});

test('a link-local next hop has its device, in the feed and as found in the kernel', () => {
  const line = '{"type":"route","prefix":"10.0.0.0/26","nextHops":["fe80::1%eth1","fe80::1%eth0"],"source":"ebgp"}';
  const table = new FeedTable();
  expect(table.apply(parseFeedMessage(line))).toEqual([prefix]);
  const nextHops = table.nextHops(prefix) ?? [];
  expect(nextHops).toEqual(['fe80::1%eth0', 'fe80::1%eth1']);
  const hops = nextHops.map(hopParts);
  expect(hops[0]).toEqual({ gateway: 'fe80::1', device: 'eth0' });
  const fresh = new FeedTable();
  expect(fresh.adopt([gatewayRoute(prefix, hops)])).toEqual([prefix]);
  expect(fresh.nextHops(prefix)).toEqual(nextHops);
});
