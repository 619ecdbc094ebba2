import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Store } from '../datastore/store.ts';
import type { Ipsets, Iptables, Netlink } from '../kernel/types.ts';
import type { OpenUdpTunnel } from '../kernel/udp-tunnel.ts';
import { type Family, parseCidr } from '../model/address.ts';
import type { Kernel } from './apply.ts';
import { Graph } from './calc/graph.ts';
import type { PolicySource } from './calc/policy-source.ts';
import type { TunnelSettings } from './calc/remote.ts';
import type { Encapsulation } from './calc/tunnels.ts';
import type { FelixConfig } from './config.ts';
import type { Configuration } from './configuration.ts';
import type { View } from './control.ts';
import type { WriteSysctl } from './managers/endpoints.ts';
import type { DeleteFlows } from './managers/flows.ts';

/** What felix works with; everything that touches the machine comes from outside. */
export interface FelixDependencies {
  readonly store: Store;
  readonly netlink: Netlink;
  /** IPv6 is handled when its driver is there. */
  readonly iptables: { readonly 4: Iptables; readonly 6?: Iptables };
  readonly ipsets: Ipsets;
  readonly policy: PolicySource;
  readonly deleteFlows: DeleteFlows;
  readonly writeSysctl: WriteSysctl;
  /** Opens the userspace tunnel in the node's namespace; without it there is none. */
  readonly openUdpTunnel?: OpenUdpTunnel;
  readonly nodename: string;
  /** Holds `felix.sock` and `routes.sock`; without it there are none. */
  readonly runDir?: string;
  /** At the start; `configuration` changes it while felix runs. */
  readonly config: FelixConfig;
  readonly configuration?: Configuration;
  /** Further views of the control socket. */
  readonly views?: Readonly<Record<string, View>>;
  /** Without it no route feed is followed, and routes to nodes of the same subnet come from the datastore. */
  readonly bgp?: boolean;
  /** MTU of pods' devices; undefined: as the tunnels or the uplink leave it. */
  readonly podMtu?: number;
  /** Processor time of this thread and its programs, by which the time between two checks is stretched; without it the clock. */
  readonly cpuMilliseconds?: () => number;
  /** Told how long the calculation took over what the datastore told at once, in milliseconds. */
  readonly calculated?: (milliseconds: number) => void;
  /** Runs a reading of the kernel's routes, to measure it. */
  readonly readingRoutes?: (read: () => Promise<void>) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Which tunnels the settings allow. */
export function tunnelsOf(config: FelixConfig): TunnelSettings {
  const { vxlanEnabled, vxlanPort, vxlanVni, ipipEnabled, udpTunnelPort, externalNodes } = config;
  return {
    vxlan: { enabled: vxlanEnabled, port: vxlanPort, id: vxlanVni },
    ipip: { enabled: ipipEnabled },
    udp: { port: udpTunnelPort },
    externalNodes: externalNodes === '' ? [] : externalNodes.split(',').map((text) => parseCidr(text)),
  };
}

/** Configured MTU of a tunnel; 0: what the uplink leaves. */
export function mtuOf(config: FelixConfig, kind: Encapsulation, family: Family): number {
  if (kind === 'ipip') return config.ipipMtu;
  if (kind === 'udp') return config.udpTunnelMtu;
  return family === 4 ? config.vxlanMtu : config.vxlanMtuV6;
}

/** The kernel's drivers, one of iptables for each family that the node handles. */
export function kernelOf(deps: FelixDependencies): Kernel {
  const { netlink, ipsets, writeSysctl, openUdpTunnel, readingRoutes } = deps;
  const iptables = new Map<Family, Iptables>([[4, deps.iptables[4]]]);
  if (deps.iptables[6]) iptables.set(6, deps.iptables[6]);
  return {
    netlink,
    iptables,
    ipsets,
    writeSysctl,
    ...(openUdpTunnel && { openUdpTunnel }),
    ...(readingRoutes && { readingRoutes }),
    forwarding: () => (deps.configuration?.current ?? deps.config).ipForwarding,
  };
}

/** The calculation of a node that handles these families. */
export function graphOf(
  { nodename, policy, config, bgp = true }: FelixDependencies,
  families: Iterable<Family>,
): Graph {
  const { interfacePrefix, sourceSpoofing } = config;
  const common = { node: nodename, families: [...families], interfacePrefix, sourceSpoofing, policy };
  const graph = new Graph({ ...common, tunnels: tunnelsOf(config), plain: !bgp });
  configureGraph(graph, config);
  return graph;
}

/** Puts into force what the calculation takes from the settings. */
export function configureGraph(graph: Graph, config: FelixConfig): void {
  graph.remote.configure(tunnelsOf(config));
  graph.services.configure(config.serviceLoops);
  const { natExclusions: exclusions, natAddress: address, natPorts: ports, natDevice: device } = config;
  graph.configureNat({ exclusions, address, ports, device });
}
