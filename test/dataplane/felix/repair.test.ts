import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { chainOf } from '../../support/chains.ts';
import { until } from '../../support/wait.ts';
import { block, node, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* What others break while nothing else happens comes back within ten seconds, with the settings as they are built in. */

const within = 10_000;
const device = 'caliweb';
const address = '10.65.0.2';
const set = 'cali40masq-ipam-pools';

let n: RealNode;
afterEach(() => n.dispose());

test.each(['nft', 'legacy'] as const)('rules, IP sets and sysctls by hand (%s)', async (backend) => {
  n = await RealNode.make(backend);
  await n.addPod(device, address);
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put(podKey('web'), pod('web', { addresses: [address] }));
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const rulesOf = async () => (await n.saved('iptables')).replace(/\[\d+:\d+\]/g, '');
  const rules = await rulesOf();
  const back = (what: string, condition: () => Promise<boolean>) => until(condition, { within, what });
  const mended = () => back('the rules', async () => (await rulesOf()) === rules);

  const members = () => n.namespace.exec('ipset', 'list', set);
  const sysctl = (name: string) => n.namespace.exec('sysctl', '-n', name);
  const names = [`net.ipv4.conf.${device}.proxy_arp`, 'net.ipv4.ip_forward'];

  for (const name of names) await n.namespace.exec('sysctl', '-qw', `${name}=0`);
  await n.namespace.exec('ipset', 'del', set, '10.65.0.0/16');
  await n.namespace.exec('ipset', 'add', set, '172.16.0.0/12');
  await n.iptables('-F', chainOf(rules.split('\n'), device, 'ingress') ?? '');
  await n.iptables('-D', 'FORWARD', '1');
  await n.iptables('-t', 'raw', '-F', 'cali-PREROUTING');
  await Promise.all([
    mended(),
    back('the member', async () => (await members()).includes('10.65.0.0/16')),
    back('the member of others gone', async () => !(await members()).includes('172.16.0.0/12')),
    ...names.map((name) => back(name, async () => (await sysctl(name)) === '1\n')),
  ]);

  for (const table of ['filter', 'nat', 'raw']) {
    await n.iptables('-t', table, '-F');
    await n.iptables('-t', table, '-X');
  }
  await mended();
});
