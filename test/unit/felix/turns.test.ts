import { afterEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { keyText } from '../../../src/datastore/store.ts';
import type { FakeNetlink } from '../../../src/kernel/fake.ts';
import { ipFromNumber } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { Harness, node, nodeResource, pod, podKey, pool } from './support.ts';

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
  for (let at = 1; at <= 600; at++) {
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
  // 600 entries of each table, in two parts.
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
