import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import type { Interfaces } from '../../src/cli/autodetect.ts';
import { startup } from '../../src/cli/startup.ts';
import { sync } from '../../src/datastore/syncer.ts';
import { TunnelAddresses } from '../../src/felix/tunnel-addresses.ts';
import { ipamOf } from '../support/ipam.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { calicoResources, v3Resources } from '../support/kubernetes/objects.ts';
import { until } from '../support/wait.ts';

/* What a node writes with the settings of a manifest, by the rights that the manifest gives it. */

const log = createLog('test', 'silent');
const interfaces = {
  eth0: [{ address: '192.0.2.7', netmask: '255.255.255.0', family: 'IPv4', cidr: '192.0.2.7/24', internal: false }],
} as unknown as Interfaces;

let cluster: TestCluster;
let stop: AbortController;
let running: Promise<void>[];
beforeEach(async () => {
  stop = new AbortController();
  running = [];
  cluster = await startCluster();
  await cluster.api.create('nodes', { metadata: { name: 'n1' }, spec: {} });
});
afterEach(async () => {
  stop.abort();
  await Promise.allSettled(running);
  await cluster.close();
});

function load(file: string) {
  const text = readFileSync(join(import.meta.dirname, '../../deploy', file), 'utf8');
  const objects = parseAllDocuments(text).map((each) => each.toJS());
  const one = (kind: string) => objects.find((each) => each.kind === kind);
  return { rules: one('ClusterRole').rules, env: { ...one('ConfigMap').data, NODENAME: 'n1' } };
}

test.each([
  ['margay.yaml', 'Never', false, 'crd.projectcalico.org'],
  ['margay-vxlan.yaml', 'Always', true, 'crd.projectcalico.org'],
  ['margay-vxlan.yaml', 'Always', true, 'projectcalico.org'],
])('%s: a node starts up, takes addresses and gives them back', async (file, vxlanMode, tunnel, group) => {
  if (group === 'projectcalico.org') {
    for (const each of calicoResources) cluster.api.resources.delete(`${each.plural}.${each.group}`);
    for (const each of v3Resources) cluster.api.resources.set(`${each.plural}.${each.group}`, each);
  }
  const { rules, env } = load(file);
  cluster.api.rules = rules;
  const store = cluster.open();
  const ipam = ipamOf(store, 'n1');
  await startup({ store, env, clock: systemClock, log, interfaces });
  const pools = await store.list('IPPool');
  expect(pools.entries.map(({ value: { spec } }) => [spec.cidr, spec.vxlanMode])).toEqual([
    ['192.168.0.0/16', vxlanMode],
  ]);

  const { signal } = stop;
  const handle = { handle: 'k8s-pod-network.c1' };
  const [given] = await ipam.assign({ ...handle, families: [4], attributes: {} }, signal);
  expect(given?.address).toMatch(/^192\.168\./);

  const tunnels = new TunnelAddresses({
    ...{ store, ipam, node: 'n1', families: [4], log, clock: systemClock },
    enabled: () => true,
  });
  const consumer = (update: Parameters<typeof tunnels.consume>[0]) => {
    ipam.consume(update);
    tunnels.consume(update);
  };
  const types = ['IPPool', 'Node'] as const;
  running = [tunnels.run(signal), sync({ store, types, consumer, log, clock: systemClock, signal })];
  const address = async () => (await store.get({ type: 'Node', name: 'n1' }))?.value.spec.ipv4VXLANTunnelAddr;
  if (tunnel) await until(async () => (await address()) !== undefined, { within: 10_000, what: 'a tunnel address' });
  await ipam.release(handle);
  stop.abort();
  await Promise.all(running);
  expect((await address()) !== undefined).toBe(tunnel);
  const asked = cluster.api.requests.filter((line) => /^POST .*calico/.test(line));
  expect(asked.length).toBeGreaterThan(0);
  for (const line of asked) expect(line).toContain(`/apis/${group}/`);
});
