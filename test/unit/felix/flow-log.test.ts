import { mkdtempSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { serveControl } from '../../../src/felix/control.ts';
import { ClusterMirror } from '../../../src/felix/explain/mirror.ts';
import type { Flow } from '../../../src/felix/flow-log/flow.ts';
import { FlowLog } from '../../../src/felix/flow-log/log.ts';
import { VerdictPlaces } from '../../../src/felix/flow-log/places.ts';
import { flowsView } from '../../../src/felix/flow-log/serve.ts';
import type { Logged, Nflog } from '../../../src/kernel/nflog-socket.ts';
import type { NodePolicy, PolicyRules } from '../../../src/policy/ir.ts';
import { chainName, prefixes } from '../../../src/policy/render/names.ts';
import { parseVerdictPrefix, verdictPrefix } from '../../../src/policy/render/verdict.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';
import { pod, podKey, silent } from './support.ts';

const long = `shop/${'a-name-that-no-chain-holds'.repeat(3)}`;
const rulesOf = (name: string, title: string): PolicyRules => ({ name, title, ingress: [], egress: [] });
const policy: NodePolicy = {
  endpoints: new Map([
    [
      'e',
      {
        endpoint: 'e',
        interfaceName: 'cali1',
        tiers: [
          { tier: 'net', defaultAction: 'deny', ingress: [long], egress: [] },
          { tier: 'a-tier-of-a-name-that-no-prefix-holds', defaultAction: 'deny', ingress: ['shop/b'], egress: [] },
        ],
        profiles: ['kns.shop'],
      },
    ],
  ]),
  policies: new Map([
    [long, rulesOf(long, 'NetworkPolicy long')],
    ['shop/b', rulesOf('shop/b', 'NetworkPolicy b')],
  ]),
  profiles: new Map([['kns.shop', rulesOf('kns.shop', 'Namespace shop')]]),
  sets: new Map(),
};
const empty: NodePolicy = { endpoints: new Map(), policies: new Map(), profiles: new Map(), sets: new Map() };
const longPrefix = verdictPrefix({
  verdict: 'deny',
  chain: chainName(prefixes.ingress.policy, long),
  place: { by: 'rule', rule: 2 },
});

function reasonOf(places: VerdictPlaces, prefix: string) {
  const mark = parseVerdictPrefix(prefix);
  if (!mark) throw new Error(`not ours: ${prefix}`);
  return places.reasonOf(prefix, mark);
}

test('prefixes mean rules, tiers and ends, in their long names', () => {
  const places = new VerdictPlaces(() => policy);
  expect(reasonOf(places, longPrefix)).toEqual({ by: 'policy', tier: 'net', policy: 'NetworkPolicy long', rule: 2 });
  expect(reasonOf(places, 'A|cali-pri-kns.shop|r0')).toEqual({ by: 'profile', policy: 'Namespace shop', rule: 0 });
  const tier = 'a-tier-of-a-name-that-no-prefix-holds';
  const end = verdictPrefix({ verdict: 'deny', chain: 'cali-tw-0123456789abcdef', place: { by: 'tier', tier } });
  expect(end).not.toContain(tier);
  expect(reasonOf(places, end)).toEqual({ by: 'tierDefault', tier });
  expect(reasonOf(places, 'D|cali-tw-0123456789abcdef|e')).toEqual({ by: 'noProfile' });
  expect(reasonOf(places, 'D|cali-pi-shop/x|r0')).toEqual({ by: 'unknown' });
});

test('a policy that is gone when its verdict is read still has its name', () => {
  let now = policy;
  const places = new VerdictPlaces(() => now);
  reasonOf(places, longPrefix);
  now = empty;
  expect(reasonOf(places, longPrefix)).toEqual({ by: 'policy', policy: 'NetworkPolicy long', rule: 2 });
});

/** TCP 10.0.0.1:port → 10.0.0.2:80. */
function packet(port: number): Uint8Array {
  const bytes = new Uint8Array(40);
  bytes.set([0x45], 0);
  bytes.set([6], 9);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2, port >> 8, port & 0xff, 0, 80], 12);
  return bytes;
}

/** A flow log that reads what `queue` holds. */
function setUp() {
  const clock = new ManualClock();
  const queue: Logged[] = [];
  const state = { wanted: true, lost: 0, opened: 0, closed: 0, refuses: false };
  const open = (): Nflog => {
    if (state.refuses) throw new Error('another has the group');
    state.opened++;
    return {
      read: (most, take) => {
        const taken = queue.splice(0, most);
        for (const each of taken) take(each);
        return { taken: taken.length, lost: state.lost };
      },
      close: () => void state.closed++,
    };
  };
  const pods = new ClusterMirror();
  const places = new VerdictPlaces(() => policy);
  const log = new FlowLog({
    open,
    wanted: () => state.wanted,
    places,
    podAt: (address) => pods.podAt(address),
    clock,
    log: silent,
  });
  const stop = new AbortController();
  const running = log.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await running;
    expect(state.closed).toBe(state.opened);
  });
  const look = async () => {
    await until(() => clock.armed > 0, { within: 5000, what: 'the look before' });
    clock.advance(60_000);
    await until(() => clock.armed > 0, { within: 5000, what: 'the look' });
  };
  return { log, pods, queue, state, look };
}

const denied = 'D|cali-pi-shop/b|r1';
const ports = (flows: Iterable<Flow>) => [...flows].map(({ source }) => source.port);

test('what is told is kept in order, up to the last thousands; what is not ours is not', async () => {
  const { log, queue, look, state } = setUp();
  for (let port = 1; port <= 5000; port++) queue.push({ prefix: denied, packet: packet(port) });
  queue.push({ prefix: 'somebody', packet: packet(1) }, { prefix: denied, packet: new Uint8Array(3) });
  for (let i = 0; i < 7; i++) await look();
  expect(ports(log.recent())).toEqual([...Array(4096).keys()].map((n) => n + 905));
  expect(log.state()).toEqual({ told: 5000, lost: 0 });
  state.lost = 3;
  await look();
  expect(log.state()).toEqual({ told: 5000, lost: 3 });
  const [first] = log.recent();
  expect(first).toEqual({
    number: 905,
    at: expect.stringMatching(/^1970-/),
    verdict: 'deny',
    direction: 'ingress',
    protocol: 6,
    source: { address: '10.0.0.1', port: 905 },
    destination: { address: '10.0.0.2', port: 80 },
    reason: {
      by: 'policy',
      tier: 'a-tier-of-a-name-that-no-prefix-holds',
      policy: 'NetworkPolicy b',
      rule: 1,
    },
    chain: 'cali-pi-shop/b',
  });
});

test('a group that another has is tried again, and left when nothing is told any more', async () => {
  const { log, state, look } = setUp();
  await look();
  expect(state.opened).toBe(1);
  state.wanted = false;
  await look();
  expect(state.closed).toBe(1);
  [state.wanted, state.refuses] = [true, true];
  await look();
  expect(log.state().problem).toContain('another has the group');
  state.refuses = false;
  await look();
  expect(state.opened).toBe(2);
  expect(log.state().problem).toBeUndefined();
});

/** Lines of an answer that does not end, and one that ends as JSON. */
async function served(log: FlowLog) {
  const dir = mkdtempSync(path.join(tmpdir(), 'flows-'));
  const some = { policy: 'a', direction: 'ingress', packets: 9, bytes: 9 } as const;
  const denied = {
    totals: async () => [
      { ...some, untold: 2 },
      { ...some, untold: 3 },
    ],
  };
  const control = await serveControl(dir, () => expect.fail(), silent, {
    '/v1/flows': flowsView(log, () => 'denied', denied),
  });
  onTestFinished(async () => {
    await control.close();
    rmSync(dir, { recursive: true });
  });
  const socketPath = `${dir}/felix.sock`;
  const ask = (query: string) =>
    new Promise<{ code: number | undefined; body: unknown }>((resolve, reject) => {
      get({ socketPath, path: `/v1/flows?${query}` }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ code: response.statusCode, body: JSON.parse(text) }));
      }).on('error', reject);
    });
  const follow = (query: string) => {
    const lines: string[] = [];
    let rest = '';
    const sent = get({ socketPath, path: `/v1/flows?follow=1&${query}` }, (response) => {
      response.setEncoding('utf8').on('data', (chunk: string) => {
        const parts = `${rest}${chunk}`.split('\n');
        rest = parts.pop() ?? '';
        lines.push(...parts);
      });
      response.on('error', () => undefined);
    });
    sent.on('error', () => undefined);
    return { lines, leave: () => sent.destroy() };
  };
  return { ask, follow };
}

test('the view filters, and refuses what it does not know', async () => {
  const { log, pods, queue, look } = setUp();
  const entry = { key: podKey('web'), value: pod('web', { addresses: ['10.0.0.2'] }), revision: '1' };
  pods.consume({ op: 'events', events: [{ op: 'set', entry }] });
  queue.push({ prefix: denied, packet: packet(1) }, { prefix: 'A|cali-pri-kns.shop|r0', packet: packet(2) });
  await look();
  const { ask } = await served(log);
  const asked = async (query: string) => ports(((await ask(query)).body as { flows: Flow[] }).flows);
  expect(await asked('')).toEqual([1, 2]);
  expect(await asked('verdict=deny')).toEqual([1]);
  expect(await asked('pod=shop/web')).toEqual([1, 2]);
  expect(await asked('pod=shop/other')).toEqual([]);
  expect(await asked('address=10.0.0.1&limit=1')).toEqual([2]);
  expect((await ask('limit=0')).body).toEqual({ telling: 'denied', told: 2, lost: 0, untold: 5, flows: [] });
  for (const wrong of ['verdict=maybe', 'pod=web', 'address=x', 'limit=-1'])
    expect(await ask(wrong)).toMatchObject({ code: 400, body: { error: expect.stringContaining('expected') } });
});

test('those that follow are told what comes, and no more than some may', async () => {
  const { log, queue, look } = setUp();
  queue.push({ prefix: denied, packet: packet(1) });
  await look();
  const { ask, follow } = await served(log);
  const follower = follow('verdict=deny');
  await until(() => follower.lines.length === 1, { within: 5000, what: 'the last flow' });
  queue.push({ prefix: 'A|cali-pri-kns.shop|r0', packet: packet(2) }, { prefix: denied, packet: packet(3) });
  await look();
  await until(() => follower.lines.length === 2, { within: 5000, what: 'the next flow' });
  expect(ports(follower.lines.map((line) => JSON.parse(line) as Flow))).toEqual([1, 3]);
  const others = [...Array(15).keys()].map(() => follow(''));
  await until(() => log.followers === 16, { within: 5000, what: 'all followers' });
  expect(await ask('follow=1')).toMatchObject({ code: 400 });
  for (const { leave } of [follower, ...others]) leave();
  await until(() => log.followers === 0, { within: 5000, what: 'that they are forgotten' });
});
