import { readdirSync } from 'node:fs';
import { errorCode } from '../base/errors.ts';
import { type LabPlan, legacyNetworks, type Machine, netnsPath, netnsPrefix } from './plan.ts';
import { run } from './run.ts';

/** Namespaces that stand, of this lab and no other. */
export function namespacesOf(lab: string): string[] {
  try {
    return readdirSync('/run/netns').filter((name) => name.startsWith(netnsPrefix(lab)));
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return [];
    throw thrown;
  }
}

/** A namespace whose interfaces take IPv6 addresses without the second of duplicate detection. */
export async function makeNamespace(netns: string, sysctls: readonly string[] = []): Promise<void> {
  await run('ip', ['netns', 'add', netns]);
  const quick = [
    'net.ipv6.conf.all.accept_dad=0',
    'net.ipv6.conf.default.accept_dad=0',
    'net.ipv6.conf.all.accept_ra=0',
  ];
  const settings = [...quick, ...sysctls];
  await run('nsenter', [`--net=${netnsPath(netns)}`, 'sysctl', '-qw', ...settings]);
  await run('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
}

/** Makes every namespace of the lab, the bridge of its fabric and the links between them. */
export async function makeNetwork(plan: LabPlan): Promise<void> {
  const forwarding = [
    'net.ipv4.ip_forward=1',
    'net.ipv6.conf.all.forwarding=1',
    'net.ipv4.fib_multipath_hash_policy=1',
  ];
  const routers = new Set([plan.tor?.netns]);
  const machines: Machine[] = [plan.fabric, plan.etcd, ...plan.nodes];
  if (plan.tor) machines.push(plan.tor);
  if (plan.legacy) machines.push(plan.legacy);
  const names = [...machines.map(({ netns }) => netns), ...plan.pods.map(({ netns }) => netns)];
  await Promise.all(names.map((netns) => makeNamespace(netns, routers.has(netns) ? forwarding : [])));
  await run('ip', ['-n', plan.fabric.netns, '-batch', '-'], { input: fabricCommands(plan).join('\n') });
  const attached = machines.filter(({ name }) => name !== 'fabric' && name !== 'legacy');
  await Promise.all(attached.map((machine) => configure(machine, 'eth0')));
  await configure(plan.fabric, 'br0');
  if (plan.tor && plan.legacy) await linkLegacy(plan.tor, plan.legacy);
}

/** `ip -batch` lines: a bridge without spanning tree, and a port of it for every machine. Pure. */
export function fabricCommands({ etcd, tor, nodes }: LabPlan): string[] {
  const lines = ['link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0', 'link set br0 up'];
  for (const { name, netns } of [etcd, ...(tor ? [tor] : []), ...nodes]) {
    lines.push(
      `link add ${name} type veth peer name eth0 netns ${netns}`,
      `link set ${name} master br0`,
      `link set ${name} up`,
    );
  }
  return lines;
}

async function configure({ netns, addresses }: Machine, device: string): Promise<void> {
  const lines = Object.values(addresses).map((address) => `addr add ${address} dev ${device} ${nodad(address)}`);
  await run('ip', ['-n', netns, '-batch', '-'], { input: [...lines, `link set ${device} up`].join('\n') });
}

/** The legacy server hangs off the ToR by a link of its own and knows no route but the one through it. */
async function linkLegacy(tor: Machine, legacy: Machine): Promise<void> {
  await run('ip', [
    '-n',
    tor.netns,
    'link',
    'add',
    'legacy',
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    legacy.netns,
  ]);
  const inner: string[] = [];
  const outer: string[] = [];
  for (const network of Object.keys(legacy.addresses).map((family) => legacyNetworks[family === '4' ? 4 : 6] ?? '')) {
    const gateway = network.replace(/0\/24$/, '1/24').replace(/::\/64$/, '::1/64');
    outer.push(`addr add ${gateway} dev legacy ${nodad(gateway)}`);
    inner.push(`route add default via ${gateway.slice(0, gateway.indexOf('/'))}`);
  }
  await run('ip', ['-n', tor.netns, '-batch', '-'], { input: [...outer, 'link set legacy up'].join('\n') });
  await configure(legacy, 'eth0');
  await run('ip', ['-n', legacy.netns, '-batch', '-'], { input: inner.join('\n') });
}

function nodad(address: string): string {
  return address.includes(':') ? 'nodad' : '';
}
