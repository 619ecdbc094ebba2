import { afterEach, expect, test } from 'vitest';
import { parseResource } from '../../../src/model/kinds.ts';
import { until } from '../../support/wait.ts';
import { RealNode } from './support.ts';

/* A router sends packets for a service range to the node, whose default route leads back to the router. */

const key = { type: 'BGPConfiguration', name: 'default' } as const;
const configuration = parseResource('BGPConfiguration', {
  kind: key.type,
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: key.name },
  spec: { serviceClusterIPs: [{ cidr: '10.96.0.0/16' }] },
});

let n: RealNode;
afterEach(() => n.dispose());

test.each([
  ['nft', 'DROP', /100% packet loss/],
  ['legacy', 'REJECT', /Destination Port Unreachable/],
] as const)('a packet to nobody goes no more round (%s, %s)', async (backend, serviceLoops, answer) => {
  n = await RealNode.make(backend, { serviceLoops });
  await n.namespace.exec('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
  await n.router.exec('ip', 'route', 'add', '10.96.0.0/16', 'via', '192.0.2.1');
  // No redirects, which would end the loop, and a router that takes back a packet with its own source.
  const settings = (device: string) =>
    ['all', device].map((name) => `net.ipv4.conf.${name}.send_redirects=0`).concat('net.ipv4.ip_forward=1');
  await n.namespace.exec('sysctl', '-qw', ...settings('up0'));
  await n.router.exec('sysctl', '-qw', ...settings('r0'), 'net.ipv4.conf.r0.accept_local=1');
  const ping = async () => {
    const command = ['sh', '-c', 'ping -n -c 1 -W 1 10.96.0.9; true'];
    return n.router.exec(...command);
  };
  n.start();
  await until(() => n.felix?.ready(), { within: 10_000, what: 'felix' });
  expect(await ping()).toContain('Time to live exceeded');
  await n.put(key, configuration);
  await until(async () => (await n.saved('iptables')).includes('-A cali-cidr-block'), {
    within: 10_000,
    what: 'the rule',
  });
  const found = await ping();
  expect(found).toMatch(answer);
  expect(found).not.toContain('Time to live exceeded');
});
