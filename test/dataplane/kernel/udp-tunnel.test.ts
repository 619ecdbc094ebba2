import { createSocket } from 'node:dgram';
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inNamespace, openNetlinkIn, warmThreads } from '../../../src/kernel/namespace.ts';
import { openTun } from '../../../src/kernel/tun.ts';
import { openUdp } from '../../../src/kernel/udp.ts';
import { openUdpTunnel, type UdpTunnel } from '../../../src/kernel/udp-tunnel.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { Namespace } from '../felix/support.ts';

/* The tunnel alone, between two namespaces: real packets, no rules. */

const within = 10_000;
const name = 'udp.margay';
const port = 8286;
const sides = [
  { local: '192.0.2.1', inner: '10.65.0.1', block: '10.65.0.0/24' },
  { local: '192.0.2.2', inner: '10.65.1.1', block: '10.65.1.0/24' },
] as const;

let spaces: Namespace[] = [];
let open: UdpTunnel[] = [];
beforeEach(async () => {
  warmThreads();
  spaces = [await Namespace.make('ta'), await Namespace.make('tb')];
  open = [];
  const [a, b] = spaces;
  await a?.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up0', 'netns', b?.name ?? '');
  for (const [at, space] of spaces.entries()) {
    await space.exec('ip', 'address', 'add', `${sides[at]?.local}/24`, 'dev', 'up0');
    await space.exec('ip', 'link', 'set', 'up0', 'up');
  }
  await a?.exec('ip', 'address', 'add', '192.0.2.9/24', 'dev', 'up0');
});
afterEach(async () => {
  await Promise.all(open.map((tunnel) => tunnel.close()));
  for (const space of spaces) await space.dispose();
});

function side(at: 0 | 1): { space: Namespace; own: (typeof sides)[number]; far: (typeof sides)[number] } {
  const space = spaces[at];
  if (!space) throw new Error('no namespace');
  return { space, own: sides[at], far: sides[at === 0 ? 1 : 0] };
}

function start(at: 0 | 1, onEnd: (cause?: Error) => void = () => undefined): UdpTunnel {
  const { space, own, far } = side(at);
  const request = { name, local: parseIp(own.local), port };
  const tunnel = openUdpTunnel(request, onEnd, (action) => inNamespace(space.path, action));
  open.push(tunnel);
  const destinations = new Map([
    [parseCidr('10.0.0.0/8'), parseIp('192.0.2.77')],
    [parseCidr(far.block), parseIp(far.local)],
  ]);
  tunnel.setTable({ destinations, sources: [parseIp(far.local)] });
  return tunnel;
}

async function configure(at: 0 | 1): Promise<void> {
  const { space, own, far } = side(at);
  await space.exec('ip', 'address', 'add', `${own.inner}/32`, 'dev', name);
  await space.exec('ip', 'link', 'set', name, 'mtu', '1472', 'up');
  for (const to of [far.block, '198.51.100.0/24'])
    await space.exec('ip', 'route', 'replace', to, 'via', far.local, 'dev', name, 'onlink');
}

const answers = (size = 84) =>
  side(0).space.succeeds('ping', '-c1', '-W1', '-M', 'do', '-s', String(size - 28), side(0).far.inner);

test('packets cross whole, from and to nodes of the table only, and what else comes is counted', async () => {
  const [a, b] = [start(0), start(1)];
  await configure(0);
  await configure(1);
  expect([await answers(), await answers(1472), await answers(1473)]).toEqual([true, true, false]);
  expect([a.counts(), b.counts()]).toMatchObject([
    { sent: 2, received: 2 },
    { sent: 2, received: 2 },
  ]);
  // No prefix of the table.
  await side(0).space.succeeds('ping', '-c1', '-W1', '198.51.100.1');
  await until(() => a.counts().unknownDestination === 1, { within, what: 'a packet to nobody' });
  // A node that sends what is no packet, and a stranger.
  const send = async (from: string) => {
    const fd = inNamespace(side(0).space.path, () => openUdp({ family: 4, address: parseIp(from), port: 9999 }));
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
    await new Promise((resolve) => socket.send('no packet', port, '192.0.2.2', resolve));
    socket.close();
  };
  await send('192.0.2.1');
  await until(() => b.counts().malformed === 1, { within, what: 'a datagram without a packet' });
  await send('192.0.2.9');
  await until(() => b.counts().unknownSource === 1, { within, what: "a stranger's datagram" });
  expect(b.counts()).toMatchObject({ received: 2, refused: 0 });
  // Another table takes effect at once.
  b.setTable({ destinations: new Map(), sources: [] });
  expect(await answers()).toBe(false);
  expect(b.counts().unknownSource).toBe(2);
});

test('the device outlives its thread, and takes the next one; without the device the thread ends', async () => {
  const ended: (Error | undefined)[] = [];
  const first = start(0, (cause) => ended.push(cause));
  start(1);
  await configure(0);
  await configure(1);
  expect(await answers()).toBe(true);
  expect(() => inNamespace(side(0).space.path, () => openTun(name))).toThrow(
    expect.objectContaining({ code: 'EBUSY' }),
  );
  await first.close();
  expect(ended).toEqual([undefined]);
  expect(await side(0).space.exec('ip', 'route', 'show', side(0).far.block)).toContain(name);
  start(0, (cause) => ended.push(cause));
  expect(await answers()).toBe(true);
  const netlink = openNetlinkIn(side(0).space.path);
  expect(netlink.link(name)).toMatchObject({ kind: 'tun', mtu: 1472, up: true });
  netlink.close();
  await side(0).space.exec('ip', 'link', 'delete', name);
  await until(() => ended.length === 2, { within, what: 'the end of the thread' });
  expect(ended[1]?.message).toContain('the device is gone');
  // A program without the tunnel may open such a device too.
  closeSync(inNamespace(side(0).space.path, () => openTun(name)));
});
