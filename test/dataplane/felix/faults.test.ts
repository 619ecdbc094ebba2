import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { sweepOtherBackend } from '../../../src/felix/other-backend.ts';
import type { Backend } from '../../../src/kernel/iptables/backend.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, node, pod, podKey, pool, profile, silent } from '../../unit/felix/support.ts';
import { Datagrams } from './datagrams.ts';
import { figure, full, measured } from './fault-figures.ts';
import { FelixProgram } from './program.ts';
import { RealNode } from './support.ts';

/* What may happen to a node, and what it costs. `npm run test:faults` repeats each fault as often as the plan says. */

const rounds = { kill: full ? 100 : 4, flush: full ? 10 : 1 };
const lockedMs = full ? 30_000 : 3000;
const limits = { route: 2000, rule: 10_000 };
const within = 15_000;
const long = { timeout: full ? 1_200_000 : 60_000 };
const pods = { a: '10.65.0.2', b: '10.65.0.3' } as const;

let n: RealNode;
const cleanups: (() => unknown)[] = [];
beforeEach(() => {
  cleanups.length = 0;
});
afterEach(async () => {
  for (const action of cleanups) await action();
  await n.dispose();
});

async function populate(): Promise<void> {
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  for (const [name, address] of Object.entries(pods)) await n.put(podKey(name), pod(name, { addresses: [address] }));
}

async function programmed(name: keyof typeof pods): Promise<void> {
  const felix = n.felix ?? n.start();
  expect(await felix.whenProgrammed(keyText(podKey(name)), undefined, within, n.signal)).toBe('programmed');
}

const addPods = async () => [await n.addPod('calia', pods.a), await n.addPod('calib', pods.b)] as const;

/** Rules without their counters. */
const rulesOf = async () => (await n.saved('iptables')).replace(/\[\d+:\d+\]/g, '');

test('SIGKILL at any moment costs a stream between pods no packet', long, async () => {
  n = await RealNode.make('nft');
  const [a, b] = await addPods();
  const felix = await FelixProgram.build(n, 'nft', pods);
  cleanups.push(() => felix.dispose());
  await felix.launch().standing;
  const stream = await Datagrams.start(a, b, pods.b);
  cleanups.push(() => stream.kill());
  await until(async () => (await stream.received()) > 0, { within, what: 'the first datagram' });
  for (let round = 0; round < rounds.kill; round++) {
    await felix.kill();
    const { standing } = felix.launch();
    // Every other one dies while it starts, each a little later than the one before.
    if (round % 2 === 0) await standing;
    else await new Promise((resolve) => setTimeout(resolve, 40 * (round % 20)));
  }
  const sent = await stream.end();
  await until(async () => (await stream.received()) === sent, { within, what: `all of ${sent} datagrams` });
  process.stdout.write(`SIGKILL: ${rounds.kill} times, ${sent} datagrams at 1,000 a second, none lost\n`);
});

test('iptables is flushed, and IP sets are destroyed: all of it comes back', long, async () => {
  n = await RealNode.make('nft');
  await addPods();
  await populate();
  await programmed('a');
  await programmed('b');
  const rules = await rulesOf();
  const sets = ['cali40all-ipam-pools', 'cali40masq-ipam-pools'];
  // The seed of a set's hash is new with each that is made.
  const plain = (text: string) =>
    text
      .replace(/ initval \S+/g, '')
      .split('\n')
      .sort()
      .join('\n');
  const setsOf = async () => plain(await n.namespace.exec('ipset', 'save'));
  const before = await setsOf();
  for (const set of sets) expect(before).toContain(`create ${set} `);
  const flushed: number[] = [];
  const destroyed: number[] = [];
  cleanups.push(() => figure('iptables flushed', flushed));
  cleanups.push(() => figure('ipset destroy', destroyed));
  for (let round = 0; round < rounds.flush; round++) {
    for (const table of ['filter', 'nat', 'raw']) {
      await n.iptables('-t', table, '-F');
      // Refused where felix was faster.
      if (round % 2 === 1) await n.namespace.succeeds('iptables-nft', '-w', '-t', table, '-X');
    }
    flushed.push(await measured(async () => (await rulesOf()) === rules, limits.rule, 'the rules'));
    // A set that rules name cannot be destroyed.
    await n.iptables('-t', 'nat', '-F');
    for (const set of sets) await n.namespace.exec('ipset', 'destroy', set);
    destroyed.push(await measured(async () => (await setsOf()) === before, limits.rule, 'the sets'));
    await until(async () => (await rulesOf()) === rules, { within: limits.rule, what: 'the rules that name them' });
  }
});

test('a foreign agent’s rules, sets and routes are the same octets before, during and after', long, async () => {
  n = await RealNode.make('legacy');
  await addPods();
  await n.iptables('-N', 'KUBE-X');
  await n.iptables('-A', 'FORWARD', '-j', 'KUBE-X');
  await n.iptables('-A', 'KUBE-X', '-m', 'comment', '--comment', 'not ours', '-s', '203.0.113.0/24', '-j', 'RETURN');
  await n.namespace.exec('ipset', 'create', 'others', 'hash:net');
  await n.namespace.exec('ip', 'route', 'add', '10.65.7.0/24', 'via', '192.0.2.2', 'proto', '4');
  const foreign = async () => ({
    rules: (await n.saved('iptables')).split('\n').filter((line) => !/cali/.test(line)),
    sets: (await n.namespace.exec('ipset', 'save')).split('\n').filter((line) => line.includes('others')),
    routes: (await n.namespace.exec('ip', 'route', 'show')).split('\n').filter((line) => !/proto 80|cali/.test(line)),
  });
  const kept = ({ rules, ...rest }: Awaited<ReturnType<typeof foreign>>) => ({
    ...rest,
    rules: rules.filter((line) => line.includes('KUBE-X')),
  });
  const before = kept(await foreign());
  await populate();
  await programmed('a');
  expect(kept(await foreign())).toEqual(before);
  await n.stop();
  n.start();
  await programmed('a');
  await n.iptables('-F', 'cali-FORWARD');
  await until(async () => (await n.saved('iptables')).includes('-A cali-FORWARD'), { within, what: 'mended' });
  expect(kept(await foreign())).toEqual(before);
  const octets = Buffer.byteLength(Object.values(before).flat().join('\n'));
  process.stdout.write(`a foreign agent's rules, sets and routes: ${octets} octets, the same at each of 3 looks\n`);
});

test('another program holds the xtables lock: the pod waits, and stands when it lets go', long, async () => {
  n = await RealNode.make('legacy');
  await addPods();
  await populate();
  await programmed('a');
  const lock = join(n.runDir, 'xtables.lock');
  const before = process.env['XTABLES_LOCKFILE'];
  cleanups.push(() => {
    if (before === undefined) delete process.env['XTABLES_LOCKFILE'];
    else process.env['XTABLES_LOCKFILE'] = before;
  });
  await n.stop();
  process.env['XTABLES_LOCKFILE'] = lock;
  const holder = spawn('flock', [lock, 'sh', '-c', `echo held; exec sleep ${lockedMs / 1000}`]);
  cleanups.push(() => holder.kill());
  await new Promise<void>((resolve) => holder.stdout.once('data', () => resolve()));
  const began = performance.now();
  await n.put(podKey('c'), pod('c', { addresses: ['10.65.0.4'] }));
  await n.addPod('calic', '10.65.0.4');
  const felix = n.start();
  const key = keyText(podKey('c'));
  expect(await felix.whenProgrammed(key, undefined, lockedMs + 30_000, n.signal)).toBe('programmed');
  expect(spawnSync('flock', ['-n', lock, 'true']).status, 'the lock is free').toBe(0);
  figure('a pod while the lock was held', [performance.now() - began]);
});

test('events of the kernel are lost: everything is read again', async () => {
  n = await RealNode.make('nft');
  await addPods();
  await populate();
  n.eventBuffer = 1;
  await programmed('a');
  const batch = join(n.runDir, 'batch');
  const each = (verb: string) =>
    Array.from({ length: 3000 }, (_, at) => `route ${verb} 198.18.${at >> 8}.${at & 255} dev up0 proto 4\n`).join('');
  writeFileSync(batch, `${each('add')}route del ${pods.a}\n${each('del')}`);
  const took: number[] = [];
  for (const before = n.overruns; n.overruns === before; ) {
    await n.namespace.exec('ip', '-batch', batch);
    const back = async () => (await n.routes()).some((route) => route.startsWith(pods.a));
    took.push(await measured(back, 5000, 'the route that was deleted in the midst'));
  }
  figure('a route whose event was lost', took);
});

test('changes while felix is away, and a reboot: the first pass makes it whole', async () => {
  n = await RealNode.make('nft');
  const first = await n.addPod('calia', pods.a);
  await populate();
  await programmed('a');
  await n.stop();
  // Away: a pod goes, another comes, a rule and a route are lost, a stale one appears.
  await n.namespace.exec('ip', 'link', 'del', 'calia');
  await n.addPod('calib', pods.b);
  await n.iptables('-F', 'cali-FORWARD');
  await n.namespace.exec('ip', 'link', 'set', 'calib', 'up');
  await n.namespace.exec('ip', 'route', 'add', '10.65.0.9', 'dev', 'calib', 'scope', 'link', 'proto', '80');
  let began = performance.now();
  n.start();
  await programmed('b');
  figure('a restart during changes', [performance.now() - began]);
  expect(await n.succeedsPing(pods.b)).toBe(true);
  expect((await n.routes()).join('\n')).not.toContain('10.65.0.9');
  expect(await first.succeeds('ip', 'link', 'show', 'eth0')).toBe(false);
  // A reboot: no pod's device, no rule, no route; the datastore is as full as it was.
  await n.stop();
  await n.reboot();
  began = performance.now();
  n.start();
  await until(() => n.felix?.status().lastApply, { within, what: 'the first pass' });
  await n.addPod('calia', pods.a);
  await programmed('a');
  figure('a reboot with a full datastore', [performance.now() - began]);
  expect(await n.succeedsPing(pods.a)).toBe(true);
});

test('the uplink gets another address, goes down and comes up: routes of the feed and pods stand', async () => {
  n = await RealNode.make('nft');
  await addPods();
  await populate();
  await n.namespace.exec('ip', 'route', 'add', '10.66.0.0/26', 'via', '192.0.2.2', 'proto', '80');
  await programmed('a');
  const remote = async () => (await n.routes()).some((route) => route.startsWith('10.66.0.0/26 via 192.0.2.2'));
  expect(await remote()).toBe(true);
  await n.namespace.exec('ip', 'address', 'del', '192.0.2.1/24', 'dev', 'up0');
  await until(async () => !(await remote()), { within, what: 'the route gone with the address' });
  await n.namespace.exec('ip', 'address', 'add', '192.0.2.9/24', 'dev', 'up0');
  figure('an address of the uplink changed', [await measured(remote, limits.rule, 'the route after the change')]);
  await n.namespace.exec('ip', 'link', 'set', 'up0', 'down');
  await until(async () => !(await remote()), { within, what: 'the route gone with its device' });
  await n.namespace.exec('ip', 'link', 'set', 'up0', 'up');
  await n.namespace.exec('ip', 'address', 'replace', '192.0.2.9/24', 'dev', 'up0');
  figure('the uplink down and up', [await measured(remote, limits.rule, 'the route after the uplink')]);
  expect(await n.succeedsPing(pods.a)).toBe(true);
});

test.each([
  ['legacy', 'nft'],
  ['nft', 'legacy'],
] as const)('from iptables-%s to %s: the old rules go when the new ones stand', async (from, to) => {
  n = await RealNode.make(from);
  const [a] = await addPods();
  await populate();
  await programmed('a');
  await n.stop();
  n.backend = to;
  const began = performance.now();
  n.start();
  await programmed('a');
  const launcher = ['nsenter', `--net=${n.namespace.path}`];
  const driverOf = (family: 4 | 6, backend: Backend) => createIptables({ family, backend, log: silent, launcher });
  expect(await sweepOtherBackend(to, [4, 6], driverOf, { launcher })).toBeGreaterThan(0);
  figure(`from iptables-${from} to ${to}`, [performance.now() - began]);
  const left = await n.namespace.exec(`iptables-${from}-save`);
  expect(left).not.toContain('cali');
  expect(await sweepOtherBackend(to, [4, 6], driverOf, { launcher })).toBe(0);
  expect(await n.saved('iptables')).toContain('cali-FORWARD');
  expect(await a.succeeds('ping', '-c1', '-W2', pods.b)).toBe(true);
});
