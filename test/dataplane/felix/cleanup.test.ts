import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { cleanup } from '../../../src/felix/cleanup.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, node, nodeResource, pod, podKey, pool, profile, silent } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

const device = 'cali0123456789a';
const within = 15_000;

let n: RealNode;
afterEach(() => n.dispose());

/** Routes, links, sets and rules, without what the kernel counts. */
async function state(): Promise<string[]> {
  const texts = await Promise.all([
    n.namespace.exec('ip', 'route'),
    n.namespace.exec('ip', '-6', 'route'),
    n.namespace.exec('ipset', 'save'),
    n.namespace.exec('ip', '-o', 'link'),
    n.saved('iptables'),
  ]);
  const lines = texts.flatMap((text) => text.replace(/\[\d+:\d+\]/g, '').split('\n'));
  // A table that was used once stays, empty; IPv6 link-local addresses settle in their own time.
  return lines.filter((line) => !/^([*:#]|COMMIT|fe80|multicast|ff00)/.test(line) && line.trim() !== '').sort();
}

async function clean(devices: boolean) {
  const launcher = ['nsenter', `--net=${n.namespace.path}`];
  const netlink = openNetlinkIn(n.namespace.path);
  try {
    const drivers = (['nft', 'legacy'] as const).flatMap((backend) =>
      ([4, 6] as const).map(
        (family) => [`${backend} ${family}`, createIptables({ family, backend, log: silent, launcher })] as const,
      ),
    );
    return await cleanup({
      netlink,
      iptables: new Map(drivers),
      ipsets: createIpsets({ log: silent, launcher }),
      families: [4, 6],
      interfacePrefix: 'cali',
      devices,
    });
  } finally {
    netlink.close();
  }
}

test.each(['nft', 'legacy'] as const)('what is ours goes, what is not stays as it was (%s)', async (backend) => {
  n = await RealNode.make(backend);
  const ip = (...words: string[]) => n.namespace.exec('ip', ...words);
  await ip('route', 'add', '10.9.0.0/16', 'via', '192.0.2.2', 'proto', 'bird');
  await ip('link', 'add', 'calico0', 'type', 'bridge');
  await ip('tuntap', 'add', 'tun0', 'mode', 'tun');
  await n.namespace.exec('ipset', 'create', 'theirs', 'hash:net');
  await n.iptables('-N', 'THEIRS');
  await n.iptables('-A', 'THEIRS', '-s', '10.9.0.0/16', '-j', 'ACCEPT');
  await n.iptables('-A', 'FORWARD', '-j', 'THEIRS');
  await n.iptables('-t', 'nat', '-A', 'POSTROUTING', '-o', 'up0', '-s', '10.9.0.0/16', '-j', 'MASQUERADE');
  const before = await state();
  const web = await n.addPod(device, '10.65.0.2');
  const podLink = (lines: readonly string[]) => lines.filter((line) => !line.includes(device));

  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true, 'Always'));
  await n.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24', '10.65.0.1'));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'], device }));
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const there = () => n.namespace.succeeds('ip', 'link', 'show', 'vxlan.calico');
  await until(there, { within, what: 'the tunnel' });
  await n.stop();
  await ip('tuntap', 'add', 'udp.margay', 'mode', 'tun');

  const report = await clean(false);
  expect(report).toMatchObject({ failures: [], devices: ['vxlan.calico', 'udp.margay'] });
  expect(report.routes).toBeGreaterThan(1);
  expect(report.chains).toBeGreaterThan(5);
  expect(podLink(await state())).toEqual(before);
  expect(await web.succeeds('ip', 'link', 'show', 'eth0')).toBe(true);
  expect(await clean(true)).toMatchObject({ failures: [], routes: 0, chains: 0, devices: [device] });
  expect(await state()).toEqual(before);
});
