import { afterEach, beforeEach, expect, test } from 'vitest';
import { RemoteBlocks } from '../../../src/felix/calc/remote.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { poolMode } from '../../../src/felix/calc/tunnels.ts';
import type { FakeNetlink } from '../../../src/kernel/fake.ts';
import { KernelError } from '../../../src/kernel/types.ts';
import type { OpenUdpTunnel, UdpTunnelRequest, UdpTunnelTable } from '../../../src/kernel/udp-tunnel.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, entry, Harness, node, nodeResource, pool, tunnels, withoutIpip, withoutTunnels } from './support.ts';

/* The tunnel that felix itself carries: who goes through it, and how its device and thread come and go. */

const within = 5_000;
const falling = (to: string) => ({ annotations: { 'margay.io/tunnelFallback': to } });

/** This node and two others in its subnet, each with a block. */
function made(more: NonNullable<Parameters<typeof pool>[4]>, vxlanMode: 'Never' | 'Always' = 'Never') {
  const routes = new RouteTable();
  const remote = new RemoteBlocks({ node, families: [4, 6], plain: false }, routes, tunnels);
  const said = (name: string, address: string, tunnel?: string, options?: Parameters<typeof nodeResource>[3]) =>
    remote.node({ op: 'set', entry: entry({ type: 'Node', name }, nodeResource(name, address, tunnel, options)) });
  remote.pool('IPPool/p', poolMode('IPPool/p', pool('p', '10.65.0.0/16', false, vxlanMode, more)));
  said(node, '192.0.2.1/24', '10.65.9.1', { ipip: '10.65.9.9' });
  for (const [name, last, tunnel] of [
    ['n2', '2', '10.65.0.2'],
    ['n3', '3', '10.65.0.67'],
  ] as const)
    said(name, `192.0.2.${last}/24`, tunnel);
  remote.block(parseCidr('10.65.0.0/26'), block('10.65.0.0/26', 'n2'));
  remote.block(parseCidr('10.65.0.64/26'), block('10.65.0.64/26', 'n3'));
  const ways = () => {
    remote.settle(() => false);
    return [...routes.winners].sort().map(([, { class: by, route }]) => `${by} ${route.nextHops[0]?.gateway}`);
  };
  return { remote, said, ways };
}

test('each pair of nodes goes by the first of pool and fallbacks that both kernels have', () => {
  const { remote, said, ways } = made({ ipipMode: 'Always', ...falling('vxlan, UDP') });
  expect([ways(), remote.udp()]).toEqual([['ipip 192.0.2.2', 'ipip 192.0.2.3'], undefined]);
  said('n2', '192.0.2.2/24', '10.65.0.2', withoutIpip);
  expect([ways(), remote.udp()]).toEqual([['vxlan 10.65.0.2', 'ipip 192.0.2.3'], undefined]);
  said('n2', '192.0.2.2/24', '10.65.0.2', withoutTunnels);
  expect(ways()).toEqual(['udp 192.0.2.2', 'ipip 192.0.2.3']);
  expect(remote.udp()).toMatchObject({ port: 8286, peers: [{ node: 'n2' }, { node: 'n3' }] });
  expect([...(remote.udp()?.destinations ?? [])]).toEqual([['10.65.0.0/26', '192.0.2.2']]);
  expect(remote.udp()).toBe(remote.udp());
  // Our own kernel counts for every way.
  said(node, '192.0.2.1/24', '10.65.9.1', withoutTunnels);
  expect(ways()).toEqual(['udp 192.0.2.2', 'udp 192.0.2.3']);
  expect(remote.udp()?.destinations.size).toBe(2);
  remote.block(parseCidr('10.65.0.64/26'), undefined);
  expect([ways(), remote.udp()?.destinations.size]).toEqual([['udp 192.0.2.2'], 1]);
  expect(['ipip', 'vxlan', 'udp'].map((kind) => remote.poolsWithout(kind as 'udp'))).toEqual([[], [], ['IPPool/p']]);
});

test('UDP takes over for VXLAN, and for IPIP without asking for VXLAN', () => {
  const vxlan = made(falling('UDP'), 'Always');
  vxlan.said('n2', '192.0.2.2/24', '10.65.0.2', withoutTunnels);
  expect(vxlan.ways()).toEqual(['udp 192.0.2.2', 'vxlan 10.65.0.67']);
  const ipip = made({ ipipMode: 'Always', ...falling('UDP') });
  ipip.said('n2', '192.0.2.2/24', undefined, withoutIpip);
  expect([ipip.ways(), ipip.remote.tunnel(4)]).toEqual([['udp 192.0.2.2', 'ipip 192.0.2.3'], undefined]);
  const six = pool('p', 'fd00::/48', false, 'Always', falling('UDP'));
  expect(() => poolMode('IPPool/p', six)).toThrow('expected UDP for IPv4 pools only');
});

test('datagrams come from nodes and go to nodes, and pods send none', () => {
  const { remote, said } = made({ ipipMode: 'Always', ...falling('UDP') });
  const rules = (chain: string, standing?: ReadonlySet<string>) =>
    remote
      .rules(4, standing)
      .get(chain)
      ?.filter((rule) => rule.includes('8286')) ?? [];
  expect([rules('cali-INPUT'), rules('cali-OUTPUT'), rules('cali-FORWARD')]).toEqual([[], [], []]);
  said('n2', '192.0.2.2/24', undefined, withoutIpip);
  expect(remote.sets(4).find(({ name }) => name === 'cali40all-udp-net')?.members).toEqual(
    new Set(['192.0.2.2/32', '192.0.2.3/32']),
  );
  expect(rules('cali-INPUT')).toEqual([
    '-p udp --dport 8286 -m set --match-set cali40all-udp-net src -m addrtype --dst-type LOCAL -j ACCEPT',
    '-p udp --dport 8286 -m addrtype --dst-type LOCAL -j DROP',
  ]);
  expect(rules('cali-OUTPUT')).toEqual([
    '-p udp --dport 8286 --sport 8286 -m set --match-set cali40all-udp-net dst -m addrtype --src-type LOCAL -j ACCEPT',
  ]);
  expect(rules('cali-FORWARD')).toEqual([
    '-p udp --dport 8286 -m set ! --match-set cali40all-udp-net src -m set --match-set cali40all-udp-net dst -j DROP',
  ]);
  expect(remote.natRules(4).filter((rule) => rule.startsWith('-o udp.margay '))).toHaveLength(1);
  said('n2', '192.0.2.2/24');
  expect(rules('cali-INPUT')).toEqual([]);
  expect(rules('cali-INPUT', new Set(['udp.margay']))).toHaveLength(2);
});

/** Threads that do nothing, on a pretended kernel. */
class Threads {
  readonly opened: { request: UdpTunnelRequest; table?: UdpTunnelTable; end: (cause?: Error) => void }[] = [];
  failure: KernelError | undefined;
  constructor(private readonly netlink: FakeNetlink) {}

  readonly open: OpenUdpTunnel = (request, onEnd) => {
    if (this.failure) throw this.failure;
    const { name } = request;
    if (!this.netlink.link(name)) this.netlink.addLink({ index: 70, name, kind: 'tun', mtu: 1500, up: false });
    const done = Promise.withResolvers<void>();
    const end = (cause?: Error) => {
      done.resolve();
      onEnd(cause);
    };
    const one: Threads['opened'][number] = { request, end };
    this.opened.push(one);
    const counts = { sent: 1, received: 2, unknownDestination: 0, unknownSource: 0, malformed: 0, refused: 0 };
    return {
      setTable: (table) => {
        one.table = table;
      },
      counts: () => counts,
      close: () => {
        setImmediate(() => end());
        return done.promise;
      },
    };
  };
}

let h: Harness;
let threads: Threads;
beforeEach(() => {
  h = new Harness({ openUdpTunnel: (...request) => threads.open(...request) });
  threads = new Threads(h.netlink);
});
afterEach(() => h.dispose());

const udp = () => h.felix.status().tunnels.find(({ kind }) => kind === 'udp');
const route = () => h.netlink.routes(4).find(({ destination }) => destination === '10.65.1.0/26')?.nextHops[0];
const upWith = (count: number) =>
  until(() => udp()?.state === 'up' && threads.opened.length === count, { within, what: `thread ${count}` });

async function populate(): Promise<void> {
  h.netlink.addLink({ index: 9, name: 'up0', mtu: 1500, up: true });
  h.netlink.addAddress('up0', '192.0.2.1/24');
  h.netlink.failures.set('tunl0', 'EOPNOTSUPP');
  const own = nodeResource(node, '192.0.2.1/24', undefined, { ipip: '10.65.0.9', ...withoutIpip });
  await h.put({ type: 'Node', name: node }, own);
  await h.put({ type: 'Node', name: 'n2' }, nodeResource('n2', '192.0.2.2/24'));
  await h.put({ type: 'Block', cidr: parseCidr('10.65.1.0/26') }, block('10.65.1.0/26', 'n2'));
  const falls = { ipipMode: 'Always', ...falling('UDP') } as const;
  await h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, 'Never', falls));
}

test('device, address, MTU, table and route; a thread that dies or a lost device is replaced', async () => {
  await populate();
  h.start();
  await upWith(1);
  await until(() => route()?.device === 'udp.margay', { within, what: 'the route' });
  expect(route()).toEqual({ gateway: '192.0.2.2', device: 'udp.margay', onlink: true });
  expect(threads.opened[0]).toMatchObject({
    request: { name: 'udp.margay', local: '192.0.2.1', port: 8286 },
    table: { destinations: new Map([['10.65.1.0/26', '192.0.2.2']]), sources: ['192.0.2.2'] },
  });
  expect(h.netlink.link('udp.margay')).toMatchObject({ mtu: 1472, up: true });
  expect(h.netlink.addressList.find(({ device }) => device === 'udp.margay')?.cidr).toBe('10.65.0.9/32');
  expect([udp(), h.felix.podMtu()]).toMatchObject([{ mtu: 1472, packets: { sent: 1, received: 2 } }, 1472]);
  threads.opened[0]?.end(new Error('a bug'));
  await upWith(2);
  h.netlink.deleteLink('udp.margay');
  await upWith(3);
  const moved = nodeResource(node, '192.0.2.7/24', undefined, { ipip: '10.65.0.9', ...withoutIpip });
  await h.put({ type: 'Node', name: node }, moved);
  await until(() => threads.opened.at(-1)?.request.local === '192.0.2.7', { within, what: 'the other address' });
  expect(h.felix.status().failures).toEqual([]);
  await h.stop();
  expect(h.netlink.link('udp.margay')?.up).toBe(true);
});

test('it goes with the last node that needs it; a host without TUN is a condition that names the pools', async () => {
  threads.failure = new KernelError('open TUN device udp.margay', 'EOPNOTSUPP', '/dev/net/tun: ENOENT');
  await populate();
  h.start();
  await until(() => udp()?.state === 'unsupported', { within, what: 'the condition' });
  expect(udp()).toMatchObject({ pools: ['IPPool/p'], reason: expect.stringContaining('/dev/net/tun') });
  expect(h.felix.status().failures).toEqual([]);
  threads.failure = undefined;
  await h.restart();
  await upWith(1);
  h.netlink.failures.delete('tunl0');
  await h.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24', undefined, { ipip: '10.65.0.9' }));
  await h.restart();
  await until(() => route()?.device === 'tunl0', { within, what: 'the route through tunl0' });
  await until(() => h.netlink.link('udp.margay') === undefined, { within, what: 'the end of the device' });
});
