import { explain } from '../base/errors.ts';
import type { Failure } from '../base/reconcile.ts';
import {
  type DesiredTable,
  type Ipsets,
  type Iptables,
  type Netlink,
  shaperHandle,
  type TableName,
} from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import { mainTable, ourProtocol } from './calc/route.ts';
import { ipipDevice, udpDevice, vxlanDevices } from './calc/tunnels.ts';
import { isOurs, releaseIpip } from './managers/ipip.ts';

export interface CleanupDependencies {
  readonly netlink: Netlink;
  /** Every driver whose chains may be there, by a name for messages. */
  readonly iptables: ReadonlyMap<string, Iptables>;
  readonly ipsets: Ipsets;
  readonly families: readonly Family[];
  readonly interfacePrefix: string;
  /** Also the pods' devices, which cuts pods that run. */
  readonly devices: boolean;
}

export interface CleanupReport {
  readonly routes: number;
  /** Chains of ours that went, and kernel chains that lost a rule of ours. */
  readonly chains: number;
  readonly devices: readonly string[];
  readonly failures: readonly Failure[];
}

const tables: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter'];
const nothing: DesiredTable = { chains: new Map(), insertions: new Map() };

/**
 * Removes what is ours from the kernel, and nothing else: routes of protocol 80 in the main table, chains that begin
 * `cali` with the rules that lead there, our IP sets, pods' shapers, the tunnels and, where asked for, the pods' devices.
 * Routes go first, so that no pod is reached without its policy, and sets after the rules that name them. One failure
 * stops nothing else. Forwarding (net.ipv4.ip_forward) stays as it is: other software needs it as well.
 */
export async function cleanup(deps: CleanupDependencies): Promise<CleanupReport> {
  const failures: Failure[] = [];
  const attempt = async <T>(kind: string, item: string, action: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await action();
    } catch (cause) {
      failures.push({ kind, item, cause });
      return undefined;
    }
  };
  const { netlink } = deps;
  const ours = deps.families
    .flatMap((family) => netlink.routes(family, mainTable))
    .filter(({ protocol }) => protocol === ourProtocol);
  const kept = netlink.applyRoutes([], ours);
  failures.push(...kept.map(({ route, cause }): Failure => ({ kind: 'route', item: route.destination, cause })));
  let chains = 0;
  for (const [name, driver] of deps.iptables) {
    const empty = new Map(tables.map((table) => [table, nothing]));
    chains += (await attempt('iptables', name, () => driver.apply(empty)))?.changedChains ?? 0;
  }
  await attempt('ipset', 'deletions', () => deps.ipsets.applyDeletions(new Map()));
  for (const { device, handle } of netlink.queues())
    if (handle === shaperHandle) await attempt('shaper', device, () => netlink.deleteShaper(device));
  const devices: string[] = [];
  for (const name of devicesOf(deps))
    if (await attempt('device', name, () => netlink.deleteLink(name))) devices.push(name);
  if (isOurs(netlink))
    await attempt('device', ipipDevice, () => {
      releaseIpip(netlink);
      devices.push(ipipDevice);
    });
  return { routes: ours.length - kept.length, chains, devices, failures };
}

/** Names that only our agents give: a tunnel's, and the prefix with eleven digits of a hash. */
function devicesOf({ netlink, interfacePrefix, devices }: CleanupDependencies): string[] {
  const tunnels = new Set(Object.values(vxlanDevices));
  return netlink.links().flatMap(({ name, kind }) => {
    if ((kind === 'vxlan' && tunnels.has(name)) || (kind === 'tun' && name === udpDevice)) return [name];
    const pod = kind === 'veth' && name.startsWith(interfacePrefix);
    return devices && pod && /^[0-9a-f]{11}$/.test(name.slice(interfacePrefix.length)) ? [name] : [];
  });
}

/** What a person reads. */
export function describeCleanup({ routes, chains, devices, failures }: CleanupReport): string {
  const lines = [
    `removed ${routes} routes, ${chains} chains and jumps, the IP sets${devices.map((name) => `, ${name}`).join('')}`,
    ...failures.map(({ kind, item, cause }) => `${kind} ${item} is still there: ${explain(cause)}`),
  ];
  return `${lines.join('\n')}\n`;
}
