import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { until } from '../../support/wait.ts';
import { pod, podKey, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* A pod with several addresses, one of which goes to another pod and then to another node. */

const within = 15_000;
const [kept, moving, other] = ['10.65.0.2', '10.65.0.5', '10.65.0.3'];
const [kept6, moving6] = ['fd00:65::2', 'fd00:65::5'];

let n: RealNode;
afterEach(() => n.dispose());

async function put(name: string, addresses: readonly string[], on?: string): Promise<void> {
  const revision = await n.put(podKey(name), pod(name, { addresses, ...(on !== undefined && { on }) }));
  if (on === undefined)
    expect(await n.felix?.whenProgrammed(keyText(podKey(name)), revision, within, n.signal)).toBe('programmed');
}

/** The node's connections to an address. */
const tracked = async (address: string) => {
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  return (await n.namespace.exec('conntrack', '-L', '-f', family, '-d', address)).split('\n').filter(Boolean).length;
};
const leads = async (address: string, device: string) =>
  (await n.namespace.exec('ip', 'route', 'get', address)).includes(`dev ${device} `);
const gone = (what: string, ...addresses: readonly string[]) =>
  until(async () => (await Promise.all(addresses.map(tracked))).every((count) => count === 0), { within, what });

test('its connections end when it moves, those of the addresses that stay go on', async () => {
  n = await RealNode.make('nft');
  const [a, b] = [await n.addPod('calia', kept), await n.addPod('calib', other)];
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.router.exec('ip', 'route', 'add', '10.65.0.0/16', 'via', '192.0.2.1');
  await n.router.exec('ip', 'route', 'add', 'fd00:65::/48', 'via', '2001:db8::1');
  for (const address of [moving, kept6, moving6]) await a.exec('ip', 'address', 'add', address, 'dev', 'eth0');
  await a.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fe80::ecee:eeff:feee:eeee', 'dev', 'eth0');
  n.start();
  await put('a', [kept, moving, kept6, moving6]);
  await put('b', [other]);
  const all = [kept, moving, kept6, moving6, other];
  const connect = async () => {
    for (const address of all) await n.router.exec('bash', '-c', `echo x >/dev/udp/${address}/9`);
  };
  for (const address of all)
    await until(() => n.router.succeeds('ping', '-c1', '-W1', address), { within, what: `an answer of ${address}` });
  await connect();
  for (const address of all) expect(await tracked(address)).toBeGreaterThan(0);

  // To the other pod: it stands in both for a moment, as the news may come in either order.
  await put('b', [other, moving, moving6]);
  await put('a', [kept, kept6]);
  await until(() => leads(moving, 'calib'), { within, what: 'the route to the other pod' });
  expect(await leads(moving6, 'calib')).toBe(true);
  await gone('no connections of the addresses that moved', moving, moving6);
  for (const address of [kept, kept6, other]) expect(await tracked(address)).toBeGreaterThan(0);
  await b.exec('ip', 'address', 'add', `${moving}/32`, 'dev', 'eth0');
  await until(() => n.router.succeeds('ping', '-c1', '-W1', moving), { within, what: 'an answer of the other pod' });

  // To another node: its pod is none of ours any more.
  await connect();
  await put('b', [other, moving, moving6], 'n2');
  await gone('no connections of the pod that is elsewhere', moving, moving6, other);
  for (const address of [kept, kept6]) expect(await tracked(address)).toBeGreaterThan(0);
  expect(await n.routes()).not.toContain(`${moving} dev calib scope link`);
});
