import { afterEach, expect, test } from 'vitest';
import { until } from '../../support/wait.ts';
import { figure, full, measured } from './fault-figures.ts';
import { RealNode } from './support.ts';
import { device, fill, stands } from './whole.ts';

/*
 * Every kind of object that felix owns is taken away by hand, and comes back: routes, of which the kernel tells, within
 * two seconds, the rest within ten, with the settings as they are built in.
 */

const limits = { told: 2000, looked: 10_000 };
const rounds = full ? 50 : 1;
const set = 'cali40all-ipam-pools';

interface Owned {
  readonly what: string;
  readonly remove: string;
  /** A command's output that has the object. */
  readonly show: string;
  readonly has: RegExp;
}

/** The kernel tells of these, and nothing else hangs on them. */
const told: readonly Owned[] = [
  { what: "a pod's route", remove: 'ip route del 10.65.0.2', show: 'ip route', has: /^10\.65\.0\.2 dev/m },
  { what: "a pod's second route", remove: 'ip route del 10.65.0.9', show: 'ip route', has: /^10\.65\.0\.9 dev/m },
  { what: "a pod's IPv6 route", remove: 'ip -6 route del fd00:65::2', show: 'ip -6 route', has: /^fd00:65::2 dev/m },
  {
    what: 'the blackhole of a block',
    remove: 'ip route del blackhole 10.65.0.0/26',
    show: 'ip route',
    has: /^blackhole 10\.65\.0\.0\/26/m,
  },
  {
    what: 'a route through VXLAN',
    remove: 'ip route del 10.65.1.0/26',
    show: 'ip route',
    has: /^10\.65\.1\.0\/26 via/m,
  },
  {
    what: 'a route through VXLAN over IPv6',
    remove: 'ip -6 route del fd00:65:0:1::/122',
    show: 'ip -6 route',
    has: /^fd00:65:0:1::\/122 via/m,
  },
  { what: 'a route through UDP', remove: 'ip route del 10.67.1.0/26', show: 'ip route', has: /^10\.67\.1\.0\/26 via/m },
  {
    what: "a pod's device set down",
    remove: `ip link set ${device} down`,
    show: 'ip route',
    has: /^10\.65\.0\.2 dev/m,
  },
];

/** The tunnel's device goes alone: all that is in it goes with it. */
const devices: readonly Owned[] = [
  {
    what: 'the device of VXLAN',
    remove: 'ip link del vxlan.calico',
    show: 'ip route',
    has: /^10\.65\.1\.0\/26 via .* dev vxlan\.calico/m,
  },
  {
    what: 'the device of VXLAN over IPv6',
    remove: 'ip link del vxlan-v6.calico',
    show: 'ip -6 route',
    has: /^fd00:65:0:1::\/122 via .* dev vxlan-v6\.calico/m,
  },
];

/** Felix looks after these from time to time. Together, since each look mends them all. */
const looked = (mac: string): readonly Owned[] => [
  {
    what: "the tunnel's neighbour",
    remove: 'ip neighbour del 10.65.1.1 dev vxlan.calico',
    show: 'ip neighbour show dev vxlan.calico',
    has: /^10\.65\.1\.1 lladdr .* PERMANENT/m,
  },
  {
    what: "the tunnel's forwarding entry",
    remove: `bridge fdb del ${mac} dev vxlan.calico self`,
    show: 'bridge fdb show dev vxlan.calico',
    has: new RegExp(`^${mac} dst 192\\.0\\.2\\.2`, 'm'),
  },
  {
    what: "the tunnel's address",
    remove: 'ip address del 10.65.0.1/32 dev vxlan.calico',
    show: 'ip address show dev vxlan.calico',
    has: /inet 10\.65\.0\.1\/32/,
  },
  {
    what: "a pod's shaper",
    remove: `tc qdisc del dev ${device} root`,
    show: `tc qdisc show dev ${device}`,
    has: /tbf/,
  },
  {
    what: "a sysctl of a pod's device",
    remove: `sysctl -qw net.ipv4.conf.${device}.proxy_arp=0`,
    show: `sysctl -n net.ipv4.conf.${device}.proxy_arp`,
    has: /^1$/m,
  },
  {
    what: 'forwarding',
    remove: 'sysctl -qw net.ipv4.ip_forward=0',
    show: 'sysctl -n net.ipv4.ip_forward',
    has: /^1$/m,
  },
  {
    what: 'a member of an IP set',
    remove: `ipset del ${set} 10.65.0.0/16`,
    show: `ipset list ${set}`,
    has: /^10\.65\.0\.0\/16$/m,
  },
];

let n: RealNode;
const took = new Map<string, number[]>();
// Also of a run that failed: how far it came.
afterEach(async () => {
  for (const [what, values] of took) figure(`${what} deleted by hand`, values);
  took.clear();
  await n.dispose();
});

const words = (command: string) => command.split(' ');

test('every owned object that is deleted by hand comes back', { timeout: full ? 1_800_000 : 60_000 }, async () => {
  n = await RealNode.make('nft', { sourceSpoofing: true });
  // What asks whether things are back would be taken for the cost of felix's looks, which then are rarer.
  n.cpuMilliseconds = () => 0;
  await fill(n);
  n.start();
  await stands(n);
  const note = (what: string, milliseconds: number) => took.set(what, [...(took.get(what) ?? []), milliseconds]);
  const back = async ({ what, show, has }: Owned, limit: number) => {
    // While a device is away there is nothing to show.
    const there = () =>
      n.namespace.exec(...words(show)).then(
        (text) => has.test(text),
        () => false,
      );
    note(what, await measured(there, limit, what));
  };
  const remove = async ({ remove: command, what, show, has }: Owned) => {
    expect(await n.namespace.exec(...words(show)), `${what} before`).toMatch(has);
    await n.namespace.exec(...words(command));
  };
  const text = async (family: string, table: string) =>
    (await n.namespace.exec(`${family}-nft-save`, '-t', table)).replace(/\[\d+:\d+\]|^#.*\n/gm, '');
  const tables = ['iptables', 'ip6tables'].flatMap((family) =>
    ['filter', 'nat', 'raw', 'mangle'].map((table) => ({ family, table })),
  );
  const link = await n.namespace.exec('bridge', 'fdb', 'show', 'dev', 'vxlan.calico');
  const mac = /^(\S+) dst 192\.0\.2\.2/m.exec(link)?.[1] ?? '';
  for (let round = 0; round < rounds; round++) {
    for (const one of told) {
      await remove(one);
      await back(one, limits.told);
    }
    for (const one of devices) {
      await remove(one);
      await back(one, limits.looked);
    }
    await until(async () => n.felix?.status().failures.length === 0, { within: limits.looked, what: 'no failure' });
    const rules = await Promise.all(tables.map(({ family, table }) => text(family, table)));
    const owned = looked(mac);
    for (const one of owned) await remove(one);
    // A rule of a chain of ours, or the jump into it, of every table that has any.
    const lost = [];
    for (const [at, { family, table }] of tables.entries()) {
      const [, chain] = /^-A (cali-\S+)/m.exec(rules[at] ?? '') ?? [];
      if (chain === undefined) continue;
      await n.namespace.exec(`${family}-nft`, '-w', '-t', table, '-F', chain);
      lost.push({
        what: `rules of ${family}'s ${table} table`,
        there: async () => (await text(family, table)) === rules[at],
      });
    }
    expect(lost.length).toBeGreaterThanOrEqual(6);
    await Promise.all([
      ...owned.map((one) => back(one, limits.looked)),
      ...lost.map(async ({ what, there }) => note(what, await measured(there, limits.looked, what))),
    ]);
  }
});
