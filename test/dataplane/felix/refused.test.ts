import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { checked, libc } from '../../../src/kernel/rtnetlink/libc.ts';
import { bindAddress, closeSocket, interfaceIndex, socketAddress } from '../../../src/kernel/socket.ts';
import { familyOf, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { pod, podKey, profile } from '../../unit/felix/support.ts';
import { type Namespace, RealNode } from './support.ts';

/* What no pod may send whatever its policy: others' addresses, and what only routers and DHCP servers say. */

const within = 15_000;
const router = { 4: parseIp('192.0.2.2'), 6: parseIp('2001:db8::2') } as const;
const kinds = { udp: [2, 17], icmp6: [3, 58] } as const;

let n: RealNode;
afterEach(() => n.dispose());

/** Sends one packet from inside a pod. */
function send(
  from: Namespace,
  kind: keyof typeof kinds,
  source: readonly [address: string, port: number],
  destination: readonly [address: string, port: number],
  octets: readonly number[] = [1],
): void {
  const [local, to] = [parseIp(source[0]), parseIp(destination[0])];
  const [type, protocol] = kinds[kind];
  inNamespace(from.path, () => {
    const domain = familyOf(to) === 4 ? 2 : 10;
    const fd = checked('socket', libc().socket(domain, type, protocol));
    try {
      const scope = /^f(e80|f02):/.test(destination[0]) ? interfaceIndex('eth0') : 0;
      bindAddress(fd, local, source[1], scope);
      const address = socketAddress(to, destination[1], scope);
      checked('connect', libc().connect(fd, address, address.length));
      const bytes = Uint8Array.from(octets);
      checked('send', libc().send(fd, bytes, bytes.length, 0));
    } finally {
      closeSocket(fd);
    }
  });
}

/** Packets that the pod's rules in raw have dropped, by what the rule names. */
async function dropped(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const program of ['iptables', 'ip6tables'] as const)
    for (const line of (await n.saved(program, '-c', '-t', 'raw')).split('\n')) {
      const [, count, what] =
        /^\[(\d+):\d+\] -A cali-from-wl-raw .*?(rpfilter|134|--dport \d+|127\.0\.0\.0)/.exec(line) ?? [];
      if (what !== undefined) found[`${program} ${what}`] = Number(count);
    }
  return found;
}

test('spoofed sources, router advertisements and DHCP servers', async () => {
  n = await RealNode.make('legacy', { sourceSpoofing: true });
  const inside = await n.addPod('caliweb', '10.65.0.2');
  for (const one of ['fd00:65::2/128', 'fd00:65::77/128', '10.65.0.77/32', '198.51.100.7/32'])
    await inside.exec('ip', 'address', 'add', one, 'dev', 'eth0', ...(one.includes(':') ? ['nodad'] : []));
  await inside.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fe80::ecee:eeff:feee:eeee', 'dev', 'eth0');
  const web = pod('web', { addresses: ['10.65.0.2', 'fd00:65::2'] });
  const annotations = { 'cni.projectcalico.org/allowedSourcePrefixes': '["198.51.100.0/24"]' };
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put(podKey('web'), { ...web, metadata: { ...web.metadata, annotations } });
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const linkLocal = async () =>
    /inet6 (fe80::\S+)\/64 scope link $/m.exec(await inside.exec('ip', '-6', 'address', 'show', 'dev', 'eth0'))?.[1];
  const own = await until(linkLocal, { within, what: "the pod's link-local address" });
  await n.router.exec('ip', '-6', 'route', 'add', 'fd00:65::/64', 'via', '2001:db8::1');
  const answered = () => inside.succeeds('ping', '-c1', '-W1', '-I', 'fd00:65::2', '2001:db8::2');
  await until(answered, { within, what: 'an answer to the pod' });
  const before = await dropped();
  const since = async () => {
    const now = Object.entries(await dropped()).map(([what, count]) => [what, count - (before[what] ?? 0)] as const);
    return Object.fromEntries(now.filter(([, count]) => count > 0));
  };

  // As a client of DHCP a pod may speak, and from a prefix that it is allowed.
  send(inside, 'udp', ['10.65.0.2', 68], ['192.0.2.2', 67]);
  send(inside, 'udp', ['fd00:65::2', 546], ['2001:db8::2', 547]);
  send(inside, 'udp', ['198.51.100.7', 4000], ['192.0.2.2', 4000]);
  expect(await since()).toEqual({});
  const advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
  send(inside, 'icmp6', [own, 0], ['ff02::1', 0], advertisement);
  send(inside, 'icmp6', ['fd00:65::2', 0], [router[6], 0], advertisement);
  send(inside, 'udp', ['10.65.0.2', 67], ['192.0.2.2', 68]);
  // The prefix that it is allowed lets nothing of these through.
  send(inside, 'udp', ['198.51.100.7', 67], ['192.0.2.2', 68]);
  send(inside, 'udp', ['fd00:65::2', 547], ['2001:db8::2', 546]);
  send(inside, 'udp', [own, 547], ['ff02::1', 546]);
  send(inside, 'udp', ['10.65.0.77', 4001], ['192.0.2.2', 4001]);
  send(inside, 'udp', ['fd00:65::77', 4001], ['2001:db8::2', 4001]);
  expect(await since()).toEqual({
    'ip6tables 134': 2,
    'iptables --dport 68': 2,
    'ip6tables --dport 546': 2,
    'iptables rpfilter': 1,
    'ip6tables rpfilter': 1,
  });
  // No connection of theirs was begun: they met their end before connections are tracked.
  const tracked =
    (await n.namespace.exec('conntrack', '-L')) + (await n.namespace.exec('conntrack', '-L', '-f', 'ipv6'));
  expect(tracked).toContain('dport=67');
  expect(tracked).not.toMatch(/^udp +17 \d+ src=\S+ dst=\S+ sport=(67|547|4001) |10\.65\.0\.77|fd00:65::77/m);
});
