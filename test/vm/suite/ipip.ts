import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { shell } from '../../support/felix-network.ts';
import { Sniffer } from '../../support/sniffer.ts';
import { Stream } from '../../support/stream.ts';
import { until } from '../../support/wait.ts';
import { fallback, nodeResource } from '../../unit/felix/support.ts';
import {
  facts,
  loadIpip,
  makeWorld,
  ping,
  routed,
  setNode,
  setPool,
  soon,
  throughTunl0,
  type World,
  within,
} from './world.ts';

/*
 * IPIP between two nodes on a kernel that has it. The tests are one story, told in order: the kernel begins without the
 * module.
 */

let world: World;
let stream: Stream;
before(async () => {
  world = await makeWorld({ ipipMode: 'Always', ...fallback });
});
after(async () => {
  stream?.close();
  await world?.network.dispose();
});

/** On a busy machine the emulated processor is slow. */
const limit = { timeout: 480_000 };
const { toA, toB } = throughTunl0;
const vxlan = { toB: `via ${facts.b.vxlan} dev vxlan.calico`, toA: `via ${facts.a.vxlan} dev vxlan.calico` } as const;
const answered = / 0% packet loss/;
/** A packet that is not inside another. */
const bare = /^\d\d:\d\d:\d\d.* proto (ICMP|TCP)/m;

/** The connection from before goes on; how long it stood still is told, not judged. */
async function flows(context: TestContext, what: string): Promise<void> {
  const longestMs = await stream.goesOn(within, what);
  context.diagnostic(`${what}: the connection stood still for ${longestMs} ms at most`);
}

/** Runs an action while watching a's end of the wire, until all that is expected has passed there. */
async function watched(filter: string, action: () => Promise<unknown>, ...expected: RegExp[]): Promise<Sniffer> {
  const sniffer = await Sniffer.listen(world.network.wire, 'wa', filter);
  const missing = () => expected.filter((pattern) => !sniffer.seen(pattern));
  try {
    await action();
    await until(() => missing().length === 0, soon('packets')).catch((cause: unknown) => {
      throw new Error(`not seen: ${missing().join(', ')}; but:\n${sniffer.lines.join('\n')}`, { cause });
    });
  } finally {
    await sniffer.close();
  }
  return sniffer;
}

test('without the module: a condition in the status, and VXLAN where the pool says so', limit, async () => {
  await routed(world, vxlan.toB, vxlan.toA);
  for (const { felix } of [world.a, world.b]) {
    const tunnel = felix.status().tunnels.find(({ device }) => device === 'tunl0');
    assert.equal(tunnel?.state, 'unsupported');
    assert.match(tunnel?.reason ?? '', /EOPNOTSUPP/);
    assert.deepEqual(felix.status().failures, []);
  }
  stream = await Stream.open(world.podA, world.podB, facts.b.pod, 7777);
  await stream.goesOn(within, 'by VXLAN');
});

test('with the module IPIP takes over at once, and the connection goes on', limit, async (context) => {
  loadIpip();
  await routed(world, toB, toA);
  await flows(context, 'from VXLAN to IPIP');
  const gone = () =>
    world.a.ip('link', 'show', 'vxlan.calico').then(
      () => false,
      () => true,
    );
  await until(gone, soon('the end of VXLAN'));
  const link = await world.a.ip('-d', 'address', 'show', 'tunl0');
  assert.match(link, /<[^>]*\bUP\b.*mtu 1480 /);
  assert.match(link, /alias margay/);
  assert.match(link, /inet 10\.65\.0\.9\/32/);
});

test('Always: on the wire it is protocol 4 between the nodes, and nothing else of the pods', limit, async () => {
  const seen = await watched(
    'ip proto 4 or net 10.65.0.0/16',
    async () => {
      assert.match(await ping(world.podA, facts.b.pod), answered);
      assert.match(await ping(world.a.namespace, facts.b.pod), answered);
    },
    /192\.0\.2\.1 > 192\.0\.2\.2: IP .*\n\s+10\.65\.0\.2 > 10\.65\.1\.2: ICMP echo request/,
    /192\.0\.2\.2 > 192\.0\.2\.1: IP .*\n\s+10\.65\.1\.2 > 10\.65\.0\.2: ICMP echo reply/,
    // The node's own packets have the tunnel's address.
    /10\.65\.0\.9 > 10\.65\.1\.2: ICMP echo request/,
    /10\.65\.1\.2 > 10\.65\.0\.9: ICMP echo reply/,
  );
  assert.equal(seen.seen(bare), false);
});

test('what does not fit into the tunnel is refused with its MTU, and the pod learns it', limit, async () => {
  await watched(
    'ip proto 4 and greater 1500',
    async () => assert.match(await ping(world.podA, facts.b.pod, { size: 1480 }), answered),
    /flags \[DF\], proto IPIP \(4\), length 1500/,
  );
  assert.match(await ping(world.podA, facts.b.pod, { size: 1500 }), /Frag needed and DF set \(mtu = 1480\)/);
  assert.match(await world.podA.exec('ip', 'route', 'get', facts.b.pod), /mtu 1480/);
  assert.match(await ping(world.podA, facts.b.pod, { size: 1500 }), /message too long, mtu=1480/);
});

test("the uplink's MTU changes the tunnel's, live", limit, async (context) => {
  const { a, podA } = world;
  await shell(a.namespace, 'ip link set up0 mtu 1400');
  const has = (mtu: number) => async () => (await a.ip('link', 'show', 'tunl0')).includes(`mtu ${mtu} `);
  await until(has(1380), soon('MTU 1380'));
  assert.equal(a.felix.podMtu(), 1380);
  assert.match(await ping(podA, facts.b.pod, { size: 1400 }), /Frag needed and DF set \(mtu = 1380\)/);
  assert.match(await ping(podA, facts.b.pod, { size: 1380 }), answered);
  await shell(a.namespace, 'ip link set up0 mtu 1500');
  await until(has(1480), soon('MTU 1480'));
  await flows(context, 'two changes of MTU');
});

test('protocol 4 from an address that is no node’s is dropped, and taken once it is one', limit, async () => {
  const { network, a } = world;
  const stranger = '10.65.9.77';
  await shell(
    network.wire,
    'ip tunnel add far mode ipip local 192.0.2.254 remote 192.0.2.1',
    `ip address add ${stranger}/32 dev far`,
    'ip link set far up',
    `ip route add ${facts.a.pod}/32 dev far src ${stranger}`,
  );
  assert.match(await ping(network.wire, facts.a.pod), /100% packet loss/);
  assert.match(await a.rules(), /\[[1-9]\d*:\d+\] -A cali-INPUT -p (4|ipencap) .*-j DROP/);
  await network.put({ type: 'Node', name: 'c' }, nodeResource('c', '192.0.2.254/24'));
  await until(async () => answered.test(await ping(network.wire, facts.a.pod)), soon('an answer'));
  await network.store.delete({ type: 'Node', name: 'c' });
  await shell(network.wire, 'ip link del far');
});

test('CrossSubnet: bare between neighbours, by IPIP to a node that moved to another subnet', limit, async () => {
  const { network, b, podA } = world;
  await setPool(network, { ipipMode: 'CrossSubnet' });
  await routed(world, 'via 192.0.2.2 dev up0', 'via 192.0.2.1 dev up0');
  const near = await watched(
    'ip proto 4 or net 10.65.0.0/16',
    async () => assert.match(await ping(podA, facts.b.pod), answered),
    /10\.65\.0\.2 > 10\.65\.1\.2: ICMP echo request/,
    /10\.65\.1\.2 > 10\.65\.0\.2: ICMP echo reply/,
  );
  assert.equal(near.seen(/proto IPIP/), false);
  assert.equal(near.seen(bare), true);
  await b.move('198.51.100.2/24');
  await setNode(network, 'b', '198.51.100.2/24');
  await routed(world, 'via 198.51.100.2 dev tunl0 .*onlink', toA);
  await watched(
    'ip proto 4',
    async () => assert.match(await ping(podA, facts.b.pod), answered),
    /192\.0\.2\.1 > 198\.51\.100\.2: IP .*\n\s+10\.65\.0\.2 > 10\.65\.1\.2: ICMP echo request/,
  );
  await b.move('192.0.2.2/24');
  await setNode(network, 'b', '192.0.2.2/24');
  await routed(world, 'via 192.0.2.2 dev up0', 'via 192.0.2.1 dev up0');
});

test('switching the mode of a live pool, each way that there is, leaves its connections', limit, async (context) => {
  const { network, a } = world;
  await flows(context, 'a node that moved to another subnet and back');
  const ways = {
    none: { options: {}, toB: 'via 192.0.2.2 dev up0', toA: 'via 192.0.2.1 dev up0' },
    IPIP: { options: { ipipMode: 'Always' }, toB, toA },
    VXLAN: { options: { vxlanMode: 'Always' }, ...vxlan },
  } as const;
  let last = 'CrossSubnet';
  const change = async (to: keyof typeof ways) => {
    const way = ways[to];
    await setPool(network, way.options);
    await routed(world, way.toB, way.toA);
    await flows(context, `from ${last} to ${to}`);
    last = to;
  };
  await change('IPIP');
  await change('VXLAN');
  const down = async () => !(await a.ip('link', 'show', 'tunl0')).includes('UP');
  await until(down, soon('tunl0 out of use'));
  await until(async () => !(await a.rules()).includes('all-hosts-net'), soon('no rules of IPIP'));
  // The six ways between three, in one round.
  for (const to of ['IPIP', 'none', 'VXLAN', 'none', 'IPIP'] as const) await change(to);
});
