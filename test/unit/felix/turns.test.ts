import { afterEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { keyText } from '../../../src/datastore/store.ts';
import type { FakeNetlink } from '../../../src/kernel/fake.ts';
import { ipFromNumber, parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { Harness, node, nodeResource, pod, podKey, pool, profile } from './support.ts';

const within = 5000;
let passed = 0;
const clock: Clock = { ...systemClock, monotonic: () => systemClock.monotonic() + passed };
let h: Harness;
afterEach(() => h.dispose());

type Dear = 'links' | 'addresses' | 'neighbours' | 'setForwardings' | 'setNeighbours';

/** Has the calls take 20 ms each, more than is meant for a turn, and tells of each beforehand. */
function dear(netlink: FakeNetlink, names: readonly Dear[], told: (name: Dear) => void): void {
  for (const name of names) {
    const call = netlink[name].bind(netlink) as (...args: unknown[]) => unknown;
    Object.assign(netlink, {
      [name]: (...args: unknown[]) => {
        told(name);
        passed += 20;
        return call(...args);
      },
    });
  }
}

test('what takes long has a turn of the event loop of its own', async () => {
  h = new Harness({ clock, bgp: false });
  h.link('eth0', true);
  await h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, 'Always'));
  await h.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24', '10.65.0.1'));
  for (let at = 1; at <= 400; at++) {
    const [underlay, tunnel] = [0xc6120000n, 0x0a410000n].map((base) => ipFromNumber(base + BigInt(at) * 64n, 4));
    await h.put({ type: 'Node', name: `r${at}` }, nodeResource(`r${at}`, `${underlay}/16`, tunnel));
  }
  let turn: Dear[] = [];
  const turns = [turn];
  const next = () => {
    if (turn.length > 0) {
      turn = [];
      turns.push(turn);
    }
    counting = setImmediate(next);
  };
  let counting = setImmediate(next);
  try {
    dear(h.netlink, ['links', 'neighbours', 'setForwardings', 'setNeighbours'], (name) => turn.push(name));
    h.start();
    await until(() => turns.flat().filter((name) => name === 'setNeighbours').length === 2, { within, what: 'tables' });
  } finally {
    clearImmediate(counting);
  }
  expect(turns.filter((calls) => calls.length > 1)).toEqual([]);
  // 400 entries of each table, in two parts.
  expect(turns.flat().filter((name) => name === 'setForwardings')).toHaveLength(2);
});

test('a device that comes while the kernel is being read is known after it', async () => {
  h = new Harness({ clock });
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  let coming = true;
  dear(h.netlink, ['addresses'], () => {
    // Links were read before, and the turn ends after this.
    if (coming) setImmediate(() => h.link('caliweb', true));
    coming = false;
  });
  h.start();
  const stands = await h.felix.whenProgrammed(keyText(podKey('web')), undefined, within, h.signal);
  expect(stands).toBe('programmed');
});

test('while rules wait for a lock, the routes and the device of a pod that stood come back; a new pod waits for its chains', async () => {
  h = new Harness();
  for (const name of ['web', 'new']) h.link(`cali${name}`);
  await h.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  h.start();
  expect(await h.felix.whenProgrammed(keyText(podKey('web')), undefined, within, h.signal)).toBe('programmed');
  const lock = Promise.withResolvers<void>();
  const apply = h.iptables[4].apply.bind(h.iptables[4]);
  let waiting = 0;
  h.iptables[4].apply = async (tables) => {
    waiting++;
    await lock.promise;
    return apply(tables);
  };
  await h.put(podKey('new'), pod('new', { addresses: ['10.65.0.3'] }));
  await until(() => waiting === 1, { within, what: 'a restore' });
  const routes = () => h.netlink.routes().map(({ destination }) => destination);
  const [route] = h.netlink.routes();
  if (!route) expect.fail('no route');
  for (let round = 0; round < 3; round++) {
    h.netlink.applyRoutes([], [route]);
    h.netlink.emit({ what: 'route', route, gone: true });
    await until(() => routes().length === 1, { within, what: 'the route' });
  }
  h.netlink.setLink('caliweb', { up: false });
  await until(() => h.netlink.link('caliweb')?.up === true && routes().length === 1, { within, what: 'the device' });
  expect([waiting, routes()]).toEqual([1, ['10.65.0.2/32']]);
  lock.resolve();
  await until(() => routes().includes(parseCidr('10.65.0.3/32')), { within, what: 'the new pod' });
});
