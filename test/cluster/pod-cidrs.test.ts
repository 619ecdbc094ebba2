import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addNetwork, type CniCall, delNetwork } from '../../src/cni/client.ts';
import { build } from '../e2e/support.ts';
import { until } from '../support/wait.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, type Installed, objectsOf } from './definitions.ts';
import { Pods, pings } from './pods.ts';
import { capabilities, Seat } from './seat.ts';

/* deploy/margay-policy-only.yaml: addresses of the range that kube-controller-manager gives a Node, and policy. */

const manifest = objectsOf('margay-policy-only.yaml');
const soon = (what: string) => ({ within: 60_000, what, every: 100 });
let cluster: ControlPlane;
let seat: Seat;
let pods: Pods;

beforeAll(async () => {
  await build();
  cluster = await ControlPlane.start({ podCidr: '10.244.0.0/16' });
  await applyDefinitions(cluster);
  await cluster.apply(...manifest, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } });
  await cluster.run(['create', 'namespace', 'shop']);
  await until(() => cluster.get('-n', 'shop', 'serviceaccount', 'default'), soon('the account of the namespace'));
  seat = await new Seat(cluster).start('198.18.5.14/30');
  pods = new Pods(cluster, seat, 'shop');
});

afterAll(async () => {
  await seat?.stop();
  await pods?.remove();
  await cluster?.stop();
});

const addressOf = async (call: CniCall) => (await addNetwork(call)).ips?.[0]?.address;

test('pods have addresses of their Node’s podCIDR, and policy, but no blocks and no routes beyond their own', async () => {
  const podCidr = async () => (await cluster.get<{ spec: { podCIDR?: string } }>('node', 'n1'))?.spec.podCIDR;
  expect(await until(podCidr, soon('the podCIDR of the Node'))).toBe('10.244.0.0/24');

  const { data } = manifest.find(({ kind }) => kind === 'ConfigMap') as Installed & { data: Record<string, string> };
  const env = { ...data, NODENAME: 'n1', MARGAY_CNI_NETWORKS_DIR: join(seat.folder, 'lib/networks') };
  const account = await cluster.accountFolder('kube-system', 'margay-node');
  const start = { account, holds: capabilities.none, env };
  await seat.once('startup', { ...start, args: ['startup'] });
  const [binDir, confDir] = [join(seat.folder, 'bin'), join(seat.folder, 'conf')];
  await seat.once('install-cni', { ...start, args: ['cni', 'install', '--bin-dir', binDir, '--conf-dir', confDir] });
  seat.program('felix', { ...start, holds: capabilities.felix, args: ['felix'] }).start();
  await seat.ready();

  const client = await pods.add('client', { app: 'client' });
  const server = await pods.add('server', { app: 'server' });
  expect(await addressOf(client)).toBe('10.244.0.2/32');
  expect(await addressOf(server)).toBe('10.244.0.3/32');
  expect(await pods.address('server')).toBe('10.244.0.3/32');
  expect(await pings(client, '10.244.0.3')).toBe(true);
  await cluster.apply({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'shop' } },
    spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] },
  });
  await until(async () => !(await pings(client, '10.244.0.3')), soon('the policy closes'));

  for (const kind of ['ippools', 'ipamblocks', 'blockaffinities', 'ipamhandles'])
    expect(await cluster.get(`${kind}.crd.projectcalico.org`), kind).toBeUndefined();
  const { stdout } = await seat.run('ip', 'route', 'show', 'proto', '80');
  expect(
    stdout
      .trim()
      .split('\n')
      .map((route) => route.split(' ')[0]),
  ).toEqual(['10.244.0.2', '10.244.0.3']);
  await delNetwork(client);
  await delNetwork(server);
  expect(await pods.address('server')).toBe('');
});
