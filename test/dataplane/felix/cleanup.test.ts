import { afterEach, expect, test } from 'vitest';
import { cleanup } from '../../../src/felix/cleanup.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { until } from '../../support/wait.ts';
import { silent } from '../../unit/felix/support.ts';
import { beyond, type Dump, dump } from './dump.ts';
import { RealNode } from './support.ts';
import { device, fill, settleStrangers, stands } from './whole.ts';

const within = 15_000;

let n: RealNode;
afterEach(() => n.dispose());

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

/** Without what is of the pod's device, which an agent does not make. */
function withoutPod(dumped: Dump): Dump {
  return Object.fromEntries(
    Object.entries(dumped).map(([name, lines]) => [name, lines.filter((line) => !line.includes(device))]),
  );
}

test.each(['nft', 'legacy'] as const)('what is ours goes, what is not stays as it was (%s)', async (backend) => {
  n = await RealNode.make(backend, { sourceSpoofing: true });
  await settleStrangers(n);
  const tentative = () => n.namespace.exec('ip', '-6', 'address', 'show', 'tentative');
  await until(async () => (await tentative()) === '', { within, what: 'the end of duplicate address detection' });
  const before = await dump(n.namespace);
  await fill(n);
  n.start();
  await stands(n);
  const during = await dump(n.namespace);
  // Everything of others is there, with the counters that it had; and of ours there is something of every kind.
  expect(beyond(before, during)).toEqual([]);
  const ours = new Set(beyond(during, before).map((line) => line.slice(0, line.indexOf(':'))));
  const kinds = ['links', 'addresses', 'routes', 'routes6', 'neighbours', 'forwarding', 'queues', 'sets', 'sysctls'];
  expect([...ours]).toEqual(expect.arrayContaining([...kinds, `iptables-${backend}`, `ip6tables-${backend}`]));
  await n.stop();

  const queue = () => n.namespace.exec('tc', 'qdisc', 'show', 'dev', device);
  expect(await queue()).toContain('tbf ca11:');
  const report = await clean(false);
  expect(await queue()).not.toContain('tbf');
  expect(report).toMatchObject({ failures: [], devices: ['vxlan.calico', 'vxlan-v6.calico', 'udp.margay'] });
  expect(report.routes).toBeGreaterThan(6);
  expect(report.chains).toBeGreaterThan(20);
  const cleaned = await dump(n.namespace);
  expect(withoutPod(cleaned)).toEqual(before);
  expect(cleaned['links']?.join('\n')).toContain(device);
  expect(await clean(true)).toMatchObject({ failures: [], routes: 0, chains: 0, devices: [device] });
  expect(await dump(n.namespace)).toEqual(before);
});
