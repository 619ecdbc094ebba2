import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { DeferringHandler } from '../../../src/cni/deferring.ts';
import { CniHandler } from '../../../src/cni/handler.ts';
import { RemovalQueue } from '../../../src/cni/removals.ts';
import type { RawRequest } from '../../../src/cni/request.ts';
import { until } from '../../support/wait.ts';
import { request, run, type World, world } from './fakes.ts';

/* DELs that could not be done at once: by the handler on fakes, and a folder. */

const soon = (what: string) => ({ within: 8000, what });

let folder: string;
let at: World;
let queue: RemovalQueue;
let deferring: DeferringHandler;
let lines: Record<string, unknown>[];
let stop: AbortController;
let running: Promise<void> | undefined;

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'margay-queue-')), 'lib/cni-queue');
  lines = [];
  const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  at = world({ families: [4] });
  for (const netns of ['a', 'b']) at.kernel.addNamespace(`/run/netns/${netns}`);
  queue = new RemovalQueue(folder, log, 10);
  const verbs = new CniHandler({ ...at.context, log });
  deferring = new DeferringHandler({ verbs, queue, clock: systemClock, log });
  stop = new AbortController();
});

afterEach(async () => {
  stop.abort();
  await running;
  running = undefined;
  rmSync(join(folder, '../..'), { recursive: true, force: true });
});

const start = () => {
  running = deferring.run(stop.signal);
};
const verb = (name: string, call = {}) => run({ handler: deferring }, name, call);
const held = () => [...at.ipam.held.keys()];
const waiting = () => (existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('del-')) : []);
const said = (message: string) => lines.filter(({ msg }) => msg === message);

/** A file as the launcher writes it. */
function leave(name: string, content: string | Buffer): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), content);
}

test('a DEL while the datastore is away succeeds, and is done when it is back', async () => {
  await verb('ADD');
  at.store.disconnect();
  expect(await verb('DEL')).toEqual({ exitCode: 0, answer: {} });
  const [file = ''] = waiting();
  expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(JSON.parse(readFileSync(join(folder, file), 'utf8'))).toEqual(request('DEL'));
  start();
  await until(() => said('CNI request failed').length >= 2, soon('a go at it while the datastore is away'));
  expect(held()).toEqual(['k8s-pod-network.9c1f']);
  at.store.connect();
  deferring.consume({ op: 'connection', up: true });
  await until(() => waiting().length === 0, soon('the DEL done'));
  expect(held()).toEqual([]);
  expect(at.kernel.host.links().map(({ name }) => name)).toEqual(['lo']);
});

test('what the launcher left is done at the start, in order, each with one line, and what comes later too', async () => {
  await verb('ADD', { container: 'c1', pod: 'c1' });
  await verb('ADD', { container: 'c2', pod: 'c2', netns: '/run/netns/b' });
  leave('del-1795283063259714214-8.json', JSON.stringify(request('DEL', { container: 'c2', pod: 'c2' })));
  leave('del-1795283063259714213-9.json', JSON.stringify(request('DEL', { container: 'c1', pod: 'c1' })));
  start();
  await until(() => waiting().length === 0, soon('the queue empty'));
  expect(held()).toEqual([]);
  const queuedAt = '2026-11-21T17:44:23.259Z';
  await until(() => said('CNI request done').length === 4, soon('a line for each'));
  expect(lines.slice(2)).toMatchObject([
    { msg: 'CNI request done', verb: 'DEL', container: 'c1', queuedAt },
    { msg: 'CNI request done', verb: 'DEL', container: 'c2', queuedAt },
  ]);
  await verb('ADD', { container: 'c3' });
  leave('del-1795283063259714215-7.json', JSON.stringify(request('DEL', { container: 'c3' })));
  await until(() => held().length === 0, soon('the file noticed'));
});

test('an ADD of a container whose DEL waits does that DEL first: the newer one stays', async () => {
  await verb('ADD');
  at.store.disconnect();
  await verb('DEL');
  // The namespace went with the DEL, and a new one has the same name.
  at.kernel.host.deleteLink('cali6672f9163e3');
  expect(await verb('ADD')).toMatchObject({ exitCode: 1, answer: { code: 11 } });
  at.store.connect();
  expect((await verb('ADD')).exitCode).toBe(0);
  expect(waiting()).toEqual([]);
  start();
  await verb('ADD', { container: 'other', pod: 'other', netns: '/run/netns/b' });
  expect(held()).toEqual(['k8s-pod-network.9c1f', 'k8s-pod-network.other']);
  expect(at.kernel.host.link('cali6672f9163e3')).toBeDefined();
});

test('a DEL that waits frees only its own address when the pod has a newer container', async () => {
  await verb('ADD');
  at.store.disconnect();
  await verb('DEL');
  at.store.connect();
  expect((await verb('ADD', { container: 'b2', netns: '/run/netns/b' })).exitCode).toBe(0);
  start();
  await until(() => waiting().length === 0, soon('the queue empty'));
  expect(held()).toEqual(['k8s-pod-network.b2']);
  expect(at.kernel.open('/run/netns/b').link('eth0')?.up).toBe(true);
});

test('files that hold no DEL are reported and set aside; what else lies there is left alone', async () => {
  await verb('ADD');
  leave('del-0000000000000000001-1.json', '{"env":{"CNI_COMMAND":"DEL"');
  leave('del-0000000000000000002-1.json', JSON.stringify(request('ADD')));
  leave('del-0000000000000000003-1.json', Buffer.alloc(70_000, 32));
  leave('del-0000000000000000004-1.json', JSON.stringify(request('DEL', { env: { CNI_CONTAINERID: '../x' } })));
  leave('del-0000000000000000005-1.json', JSON.stringify(request('DEL', { conf: { cniVersion: '0.2.0' } })));
  mkdirSync(join(folder, 'del-0000000000000000006-1.json'));
  leave('del-0000000000000000007-1.json', JSON.stringify(request('DEL')));
  leave('.new-del-1.json', '{');
  start();
  await until(() => waiting().length === 0, soon('the queue empty'));
  expect(held()).toEqual([]);
  expect(readdirSync(folder).sort()).toEqual([
    '.new-del-1.json',
    ...[1, 2, 3, 4, 5, 6].map((at) => `refused-del-000000000000000000${at}-1.json`),
  ]);
  expect(said('a queued CNI DEL cannot be done and is set aside').map(({ reason }) => reason)).toEqual([
    expect.stringContaining('expected JSON'),
    expect.stringContaining('CNI_COMMAND: "ADD": expected DEL'),
    expect.stringContaining('70000 octets'),
    expect.stringContaining('regular file'),
    expect.stringContaining('CNI_CONTAINERID'),
    expect.stringContaining('0.2.0'),
  ]);
});

test('one DEL that fails does not hold up the next, and is tried again', async () => {
  await verb('ADD');
  await verb('ADD', { container: 'b2', pod: 'other', netns: '/run/netns/b' });
  at.kernel.host.failures.set('cali6672f9163e3', 'EPERM');
  leave('del-0000000000000000001-1.json', JSON.stringify(request('DEL')));
  leave('del-0000000000000000002-1.json', JSON.stringify(request('DEL', { container: 'b2', pod: 'other' })));
  start();
  await until(() => held().length === 1, soon('the second done'));
  expect(held()).toEqual(['k8s-pod-network.9c1f']);
  at.kernel.host.failures.clear();
  await until(() => held().length === 0, soon('the first done'));
});

test('a full queue keeps nothing more: the runtime repeats such a DEL', async () => {
  await verb('ADD');
  for (let i = 0; i < 10; i++) leave(`del-000000000000000000${i}-1.json`, '');
  at.store.disconnect();
  expect(await verb('DEL')).toMatchObject({ exitCode: 1, answer: { code: 11 } });
  expect(waiting().length).toBe(10);
});

test('the oldest waits for nobody, the others go several at a time, and none where the first says that it is too early', async () => {
  for (let index = 10; index < 30; index++)
    leave(`del-17952830632597142${index}-1.json`, JSON.stringify(request('DEL', { container: `c${index}` })));
  const order: (string | undefined)[] = [];
  let [atWork, most, code] = [0, 0, 11 as 11 | undefined];
  const verbs = {
    consume: () => undefined,
    handle: async ({ env }: RawRequest) => {
      order.push(env['CNI_CONTAINERID']);
      most = Math.max(most, ++atWork);
      await new Promise((resolve) => setImmediate(resolve));
      atWork--;
      return { exitCode: code === undefined ? 0 : 1, stdout: '', ...(code && { code }) };
    },
  };
  const eager = new DeferringHandler({ verbs, queue, clock: systemClock, log: createLog('test', 'silent') });
  const { signal } = new AbortController();
  expect(await eager.drain(signal)).toBe(false);
  expect([order, waiting().length]).toEqual([['c10'], 20]);
  code = undefined;
  expect(await eager.drain(signal)).toBe(true);
  expect([order.slice(0, 3), order.length, waiting(), most]).toEqual([['c10', 'c10', 'c11'], 21, [], 8]);
});
