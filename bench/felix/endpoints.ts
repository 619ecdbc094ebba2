import { randomBytes } from 'node:crypto';
import { configurePod, createVeth } from '../../src/cni/veth.ts';
import { keyText } from '../../src/datastore/store.ts';
import { inNamespace, openNetlinkIn } from '../../src/kernel/namespace.ts';
import { writeSysctl } from '../../src/kernel/sysctl.ts';
import { run } from '../../src/lab/run.ts';
import { until } from '../../src/lab/wait.ts';
import { ipFromNumber } from '../../src/model/address.ts';
import type { Figure } from '../figure.ts';
import { type Agent, blockOf, endpointKey, endpointOf, node, nodeOf, poolOf, profileOf, withAgent } from './agent.ts';
import { collectGarbage } from './garbage.ts';
import { type Space, withSpace } from './space.ts';
import { longestPause } from './turns.ts';

/** Of the project. */
const target = { podMs: 5, pauseMs: 50 };
const deadlineMs = 120_000;

function against(name: string, unit: string, ours: readonly number[], peer: number): Figure {
  return { name, unit, ours, peer: ours.map(() => peer), peerName: 'target' };
}

/** Pods that come at once: pair, addresses, routes, sysctls and chains, in milliseconds a pod. */
export async function measureEndpoints(pods: number, runs: number): Promise<Figure> {
  const ours: number[] = [];
  for (let round = 0; round < runs; round++)
    ours.push(
      await withSpace((space) =>
        withAgent(space, false, async (agent) => {
          await agent.put({ type: 'Profile', name: 'kns.shop' }, profileOf('kns.shop'));
          agent.start();
          const prefix = `bench-pod-${process.pid}-${randomBytes(2).toString('hex')}`;
          const names = Array.from({ length: pods }, (_, at) => `${prefix}-${at}`);
          try {
            for (const name of names) await run('ip', ['netns', 'add', name]);
            const began = performance.now();
            await Promise.all(names.map((name, at) => setUp(agent, name, at)));
            return (performance.now() - began) / pods;
          } finally {
            for (const name of names) await run('ip', ['netns', 'delete', name]);
          }
        }),
      ),
    );
  return against('felix-endpoints', 'ms', ours, target.podMs);
}

/** As the CNI server does it, without IPAM. */
async function setUp({ felix, netlink, put, signal }: Agent, name: string, at: number): Promise<void> {
  const netns = `/run/netns/${name}`;
  const hostDevice = `cali${at}`;
  const address = ipFromNumber(0x0a410000n + BigInt(at), 4);
  const plan = { hostDevice, ifName: 'eth0', netns, mtu: 1500, mac: '' };
  const written = put(endpointKey(`p${at}`), endpointOf(`p${at}`, hostDevice, address));
  const link = createVeth(netlink, {
    ...plan,
    mac: `02:00:00:00:${(at >> 8).toString(16).padStart(2, '0')}:${(at & 255).toString(16).padStart(2, '0')}`,
  });
  if (link) felix.deviceMade(link);
  const inside = openNetlinkIn(netns);
  try {
    const enableIpv6 = () => void inNamespace(netns, () => writeSysctl('net/ipv6/conf/all/disable_ipv6', '0'));
    configurePod(netlink, { netlink: inside, enableIpv6, close: () => inside.close() }, plan, [address]);
  } finally {
    inside.close();
  }
  const outcome = await felix.whenProgrammed(keyText(endpointKey(`p${at}`)), await written, deadlineMs, signal);
  if (outcome !== 'programmed') throw new Error(`${name} was not programmed`);
}

/** Devices and objects of local pods, whose other ends are in one more namespace: only the node's side is felix's. */
async function localPods({ netlink, put }: Agent, peers: Space, count: number): Promise<void> {
  await put({ type: 'Profile', name: 'kns.shop' }, profileOf('kns.shop'));
  const inside = openNetlinkIn(peers.path);
  try {
    for (let at = 0; at < count; at++) {
      const hostMac = 'ee:ee:ee:ee:ee:ee';
      netlink.addVeth({ hostName: `cali${at}`, podName: `pod${at}`, netns: peers.path, mtu: 1500, hostMac });
      inside.setLink(`pod${at}`, { up: true });
      const address = ipFromNumber(0x0a410000n + BigInt(at), 4);
      await put(endpointKey(`p${at}`), endpointOf(`p${at}`, `cali${at}`, address));
    }
  } finally {
    inside.close();
  }
}

/** A node's agent, and a namespace for the other ends of its pods. */
function withNode(bgp: boolean, action: (agent: Agent, space: Space, peers: Space) => Promise<void>): Promise<void> {
  return withSpace((peers) => withSpace((space) => withAgent(space, bgp, (agent) => action(agent, space, peers))));
}

async function allProgrammed({ felix, signal }: Agent, count: number): Promise<void> {
  for (let at = 0; at < count; at++) {
    const outcome = await felix.whenProgrammed(keyText(endpointKey(`p${at}`)), undefined, deadlineMs, signal);
    if (outcome !== 'programmed') throw new Error(`p${at} was not programmed`);
  }
}

/** Until another process finds so many routes through the tunnel, and felix has made no pass for a while. */
async function settled({ felix, signal }: Agent, space: Space, routes: number): Promise<void> {
  let passes = 0;
  felix.onPass(() => passes++);
  let before = -1;
  await until(`${routes} routes through the tunnel`, deadlineMs, signal, async () => {
    const found = await space.exec('ip', 'route', 'show', 'proto', '80');
    const through = found.split(' dev vxlan.calico ').length - 1;
    const quiet = passes === before;
    before = passes;
    return quiet && through === routes ? {} : `${through} routes, ${passes} passes`;
  });
}

/** The longest that the event loop stands still, at 10,000 remote blocks of 1,000 nodes and 500 local pods. */
export async function measurePauses(runs: number): Promise<Figure[]> {
  const [blocks, nodes, pods] = [10_000, 1000, 500];
  const figures = new Map<string, number[]>();
  for (let round = 0; round < runs; round++)
    await withNode(false, async (agent, space, peers) => {
      const { put, store } = agent;
      const note = async (name: string, action: () => Promise<void>) => {
        const { wall, cpu } = await longestPause(action);
        figures.set(name, [...(figures.get(name) ?? []), wall]);
        figures.set(`${name}-cpu`, [...(figures.get(`${name}-cpu`) ?? []), cpu]);
      };
      await localPods(agent, peers, pods);
      await put({ type: 'IPPool', name: 'p' }, poolOf('10.128.0.0/9', 'Always'));
      await put({ type: 'Node', name: node }, nodeOf(node, '192.0.2.1/24', '10.65.9.9'));
      for (let at = 0; at < nodes; at++) {
        const name = `r${at}`;
        const [underlay, tunnel] = [0xc6120000n, 0x0a800000n].map((base) => ipFromNumber(base + BigInt(at) * 640n, 4));
        await put({ type: 'Node', name }, nodeOf(name, `${underlay}/16`, tunnel ?? ''));
      }
      for (let at = 0; at < blocks; at++) {
        const { cidr, block } = blockOf(
          `${ipFromNumber(0x0a800000n + BigInt(at) * 64n, 4)}/26`,
          `r${Math.floor(at / 10)}`,
        );
        await store.create({ type: 'Block', cidr }, block);
      }
      // What filling the store has left is not felix's.
      collectGarbage('major');
      await note('start', async () => {
        agent.start();
        await allProgrammed(agent, pods);
        await settled(agent, space, blocks);
      });
      for (const [name, routes, change] of [
        ['own-node', blocks, () => put({ type: 'Node', name: node }, nodeOf(node, '192.0.2.1/23', '10.65.9.9'))],
        [
          'other-node',
          blocks,
          () => put({ type: 'Node', name: 'r7' }, nodeOf('r7', '198.18.99.1/16', '10.128.17.128')),
        ],
        ['pool', 0, () => put({ type: 'IPPool', name: 'p' }, poolOf('10.128.0.0/9', 'Never'))],
        ['pool-back', blocks, () => put({ type: 'IPPool', name: 'p' }, poolOf('10.128.0.0/9', 'Always'))],
        ['pod-gone', blocks, () => space.exec('ip', 'link', 'delete', 'cali7')],
      ] as const)
        await note(name, async () => {
          await change();
          await settled(agent, space, routes);
        });
    });
  return [...figures].map(([name, ours]) => against(`felix-pauses-${name}`, 'ms', ours, target.pauseMs));
}
