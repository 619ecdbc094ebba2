import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, node, pod, podKey, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* What an endpoint asks for beyond its address, in the kernel. */

const within = 10_000;
const device = 'caliweb';
const address = '10.65.0.2';

let n: RealNode;
afterEach(() => n.dispose());

function wishing(annotations: Record<string, string>) {
  const one = pod('web', { addresses: [address] });
  return { ...one, metadata: { ...one.metadata, annotations } };
}

async function programmed(revision: string): Promise<void> {
  expect(await n.felix?.whenProgrammed(keyText(podKey('web')), revision, within, n.signal)).toBe('programmed');
}

async function startWith(annotations: Record<string, string>) {
  const inside = await n.addPod(device, address);
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  const revision = await n.put(podKey('web'), wishing(annotations));
  n.start();
  await programmed(revision);
  return inside;
}

/** Packets that a rule has counted. */
async function counted(part: string, table = 'raw'): Promise<number> {
  const rule = (await n.saved('iptables', '-c', '-t', table)).split('\n').find((line) => line.includes(part));
  if (rule === undefined) throw new Error(`no rule with ${part}`);
  return Number(/^\[(\d+):/.exec(rule)?.[1]);
}

test.each(['nft', 'legacy'] as const)('bandwidth: changed, mended, taken away (%s)', async (backend) => {
  n = await RealNode.make(backend);
  const limits = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '8k' };
  const inside = await startWith(limits);
  const queue = () => n.namespace.exec('tc', 'qdisc', 'show', 'dev', device);
  await until(async () => /tbf ca11: root .*rate 10Mbit/.test(await queue()), { within, what: 'tbf' });
  // Replies come at 10 Mbit/s; what the pod sends beyond 8 kbit/s is lost.
  await inside.succeeds('ping', '-q', '-c40', '-i0.01', '-W1', '-s1000', '192.0.2.1');
  expect(await counted('--hashlimit-above')).toBeGreaterThan(0);

  await n.namespace.exec('tc', 'qdisc', 'del', 'dev', device, 'root');
  await until(async () => (await queue()).includes('tbf'), { within, what: 'the shaper back' });

  await programmed(await n.put(podKey('web'), wishing({ 'kubernetes.io/ingress-bandwidth': '20M' })));
  await until(async () => (await queue()).includes('rate 20Mbit'), { within, what: 'the new rate' });
  expect(await n.saved('iptables', '-t', 'raw')).not.toContain('hashlimit');

  await programmed(await n.put(podKey('web'), wishing({})));
  await until(async () => !(await queue()).includes('tbf'), { within, what: 'no shaper' });

  // Packets and connections.
  const more = { ingressPacketRate: '20', egressPacketRate: '5', ingressMaxConnections: '1' };
  const named = Object.entries(more).map(([name, value]) => [`qos.projectcalico.org/${name}`, value] as const);
  await programmed(await n.put(podKey('web'), wishing(Object.fromEntries(named))));
  await inside.succeeds('ping', '-q', '-c20', '-i0.01', '-W1', '192.0.2.1');
  expect(await counted('--hashlimit-above 5/sec')).toBeGreaterThan(5);
  const listen = "require('node:net').createServer(() => {}).listen(7777, () => console.log('ready'))";
  const server = spawn('nsenter', [`--net=${inside.path}`, process.execPath, '-e', listen]);
  try {
    await once(server.stdout, 'data');
    const dial = (count: number) =>
      Array.from({ length: count }, () => `exec {fd}<>/dev/tcp/${address}/7777`).join('; ');
    expect(await n.namespace.succeeds('bash', '-c', dial(1))).toBe(true);
    // The second of two that are open at one time is reset.
    expect(await n.namespace.succeeds('bash', '-c', dial(2))).toBe(false);
    expect(await counted('-j REJECT', 'filter')).toBeGreaterThan(0);
  } finally {
    server.kill();
  }
  await programmed(await n.put(podKey('web'), wishing({})));
  expect(await n.saved('iptables')).not.toMatch(/connlimit|hashlimit/);
});

test('a restart leaves a shaper that is right as it is', async () => {
  n = await RealNode.make('nft');
  await startWith({ 'kubernetes.io/ingress-bandwidth': '7M', 'qos.projectcalico.org/ingressBurst': '9M' });
  const netlink = openNetlinkIn(n.namespace.path);
  try {
    const [queue] = await until(() => (netlink.queues().length > 0 ? netlink.queues() : false), {
      within,
      what: 'the shaper',
    });
    expect(queue).toMatchObject({ device, kind: 'tbf', rate: 875_000, handle: 0xca110000 });
    await n.namespace.exec('tc', 'qdisc', 'replace', 'dev', device, 'handle', '1:', 'root', 'pfifo', 'limit', '9');
    await n.stop();
    n.start();
    const failed = await until(() => n.felix?.status().failures[0], { within, what: 'the failure' });
    expect(failed).toMatchObject({ kind: 'shaper', item: device });
    expect(await n.namespace.exec('tc', 'qdisc', 'show', 'dev', device)).toContain('pfifo 1: root');
  } finally {
    netlink.close();
  }
});

test('allowed source prefixes hold only where pods may be given sources', async () => {
  n = await RealNode.make('nft');
  const inside = await startWith({ 'cni.projectcalico.org/allowedSourcePrefixes': '["198.51.100.0/24"]' });
  await inside.exec('ip', 'address', 'add', '198.51.100.7/32', 'dev', 'eth0');
  await inside.succeeds('ping', '-c1', '-W1', '-I', '198.51.100.7', '192.0.2.2');
  expect(await counted('rpfilter')).toBe(1);
});

test('allowed source prefixes pass the reverse path check, other addresses do not', async () => {
  n = await RealNode.make('nft', { sourceSpoofing: true });
  const inside = await startWith({ 'cni.projectcalico.org/allowedSourcePrefixes': '["198.51.100.0/24"]' });
  for (const extra of ['198.51.100.7/32', '203.0.113.7/32'])
    await inside.exec('ip', 'address', 'add', extra, 'dev', 'eth0');
  await inside.succeeds('ping', '-c1', '-W1', '-I', '198.51.100.7', '192.0.2.2');
  expect(await counted('198.51.100.0/24')).toBe(1);
  expect(await counted('rpfilter')).toBe(0);
  await inside.succeeds('ping', '-c1', '-W1', '-I', '203.0.113.7', '192.0.2.2');
  expect(await counted('rpfilter')).toBe(1);
  const rp = await n.namespace.exec('sysctl', '-n', `net.ipv4.conf.${device}.rp_filter`);
  expect(rp).toBe('0\n');
});
