import type { RuleText } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import { everyInterface } from '../../model/host-endpoint.ts';
import type { EarlyStage, EndpointPolicy, NodePolicy } from '../ir.ts';
import { type EndpointOptions, endRules, profileRules, tierRules } from './endpoint.ts';
import type { Failsafe } from './failsafe.ts';
import { acceptMark, chainName, chains, hostPrefixes } from './names.ts';

export interface HostOptions extends EndpointOptions {
  /** Devices whose names begin with it are pods; an unknown one is closed. */
  readonly interfacePrefix: string;
  readonly failsafeInbound: readonly Failsafe[];
  readonly failsafeOutbound: readonly Failsafe[];
}

type Chains = [string, readonly RuleText[]][];

/** What is called for the host's own traffic, and for what it forwards; empty where no host endpoint asks for it. */
export interface HostRules {
  readonly chains: Chains;
  readonly input: readonly RuleText[];
  readonly output: readonly RuleText[];
  /** Clears the marks, but for what an early stage decided. */
  readonly clearForward: RuleText;
  readonly forwardFrom: readonly RuleText[];
  readonly forwardTo: readonly RuleText[];
}

/** A device with the host endpoint that stands for it; `*` for every one without its own. */
export interface Device {
  readonly device: string;
  readonly host: EndpointPolicy;
}

const clear = '-j MARK --set-xmark 0x0/0x30000';

/**
 * The chains of a node's host endpoints. A device without one of its own belongs to that of all devices, if there is one;
 * pods' devices and the loopback device to none.
 * @param early the stages that may have accepted a packet before
 */
export function hostRules(
  policy: NodePolicy,
  family: Family,
  options: HostOptions,
  early: ReadonlySet<EarlyStage>,
): HostRules {
  const devices = devicesOf(policy);
  if (devices.length === 0)
    return { chains: [], input: [], output: [], clearForward: clear, forwardFrom: [], forwardTo: [] };
  const from = forward(devices, 'ingress', policy, options);
  const to = forward(devices, 'egress', policy, options);
  const decided = [`-m mark --mark ${acceptMark} -j ACCEPT`];
  return {
    chains: [
      [chains.failsafeIn, failsafes(options.failsafeInbound, '-s', family)],
      [chains.failsafeOut, failsafes(options.failsafeOutbound, '-d', family)],
      [chains.fromHost, dispatch(devices, 'ingress', 'endpoint', options)],
      [chains.toHost, dispatch(devices, 'egress', 'endpoint', options)],
      ...devices.flatMap(({ device, host }) =>
        (['ingress', 'egress'] as const).map((direction): Chains[number] => [
          nameOf(device, direction, 'endpoint'),
          ownChain({ device, host }, direction, family, policy, options),
        ]),
      ),
      ...from,
      ...to,
    ],
    input: [...(early.size > 0 ? decided : []), clear, `-j ${chains.fromHost}`, ...decided],
    output: [
      ...(early.has('untracked') ? decided : []),
      clear,
      ...tunnels(family, options),
      `-j ${chains.toHost}`,
      ...decided,
    ],
    clearForward: early.size > 0 ? '-j MARK --set-xmark 0x0/0x20000' : clear,
    forwardFrom:
      from.length > 0 ? [`${early.size > 0 ? '-m mark --mark 0x0/0x10000 ' : ''}-j ${chains.fromHostForward}`] : [],
    forwardTo: to.length > 0 ? [`-j ${chains.toHostForward}`] : [],
  };
}

/** The devices of host endpoints; of two that claim one, the first by name has it. */
export function devicesOf(policy: NodePolicy): Device[] {
  const hosts = [...policy.endpoints.values()].filter(({ host }) => host);
  hosts.sort((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
  const byDevice = new Map<string, EndpointPolicy>();
  for (const host of hosts)
    for (const device of host.host?.devices ?? []) if (!byDevice.has(device)) byDevice.set(device, host);
  return [...byDevice].map(([device, host]) => ({ device, host }));
}

/**
 * The host endpoint at a device, as `dispatch` finds it.
 * @param device undefined: one that is not known, which only that of all devices stands for, if it is the only one
 */
export function hostAt(
  devices: readonly Device[],
  device: string | undefined,
  interfacePrefix: string,
): EndpointPolicy | undefined {
  const all = devices.find((each) => each.device === everyInterface)?.host;
  if (device === undefined) return devices.length === 1 ? all : undefined;
  const named = devices.find((each) => each.device === device)?.host;
  return named ?? (device === 'lo' || device.startsWith(interfacePrefix) ? undefined : all);
}

export function nameOf(device: string, direction: 'ingress' | 'egress', what: 'endpoint' | 'forward'): string {
  return chainName(hostPrefixes[direction][what], device === everyInterface ? 'any-interface-at-all' : device);
}

export function dispatch(
  devices: readonly Device[],
  direction: 'ingress' | 'egress',
  what: 'endpoint' | 'forward',
  { interfacePrefix }: HostOptions,
): RuleText[] {
  const flag = direction === 'ingress' ? '-i' : '-o';
  const named = devices.filter(({ device }) => device !== everyInterface);
  const all = named.length < devices.length;
  return [
    ...named.map(({ device }) => `${flag} ${device} -g ${nameOf(device, direction, what)}`),
    ...(all
      ? [
          `${flag} ${interfacePrefix}+ -j RETURN`,
          `${flag} lo -j RETURN`,
          `-g ${nameOf(everyInterface, direction, what)}`,
        ]
      : []),
  ];
}

const established = '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT';

/** Connections that nothing is known of are not taken up. */
export function doubtful({ dropInvalid, dropMidstream }: HostOptions): RuleText[] {
  return [
    ...(dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
    ...(dropMidstream ? ['-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP'] : []),
  ];
}

/** The host's own traffic: failsafe ports, then tiers and profiles, and what nothing allows is dropped. */
function ownChain(
  { device, host }: Device,
  direction: 'ingress' | 'egress',
  family: Family,
  policy: NodePolicy,
  options: HostOptions,
): RuleText[] {
  const chain = nameOf(device, direction, 'endpoint');
  return [
    established,
    ...doubtful(options),
    ...neighbours(family),
    `-j ${direction === 'ingress' ? chains.failsafeIn : chains.failsafeOut}`,
    clear,
    ...tierRules(chain, host.tiers, direction, policy, options),
    ...profileRules(host.profiles, direction, policy),
    ...endRules(chain, options),
  ];
}

/**
 * The chains of forwarded traffic, which only policies with `applyOnForward` decide; none without such a policy. What
 * they pass on goes its way; on the way out it keeps what a pod's policy decided before.
 */
function forward(
  devices: readonly Device[],
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  options: HostOptions,
): Chains {
  const asks = ({ host }: EndpointPolicy) => host?.forward.some((tier) => tier[direction].length > 0) ?? false;
  if (!devices.some(({ host }) => asks(host))) return [];
  return [
    [
      direction === 'ingress' ? chains.fromHostForward : chains.toHostForward,
      dispatch(devices, direction, 'forward', options),
    ],
    ...devices.map(({ device, host }): Chains[number] => [
      nameOf(device, direction, 'forward'),
      // A device of its own without such a policy is not subject to that of all devices.
      asks(host) ? forwardChain({ device, host }, direction, policy, options) : [],
    ]),
  ];
}

function forwardChain(
  { device, host }: Device,
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  options: HostOptions,
): RuleText[] {
  return [
    established,
    ...doubtful(options),
    clear,
    ...tierRules(nameOf(device, direction, 'forward'), host.host?.forward ?? [], direction, policy, options),
    ...(direction === 'egress' ? [`-g ${chains.accept}`] : []),
  ];
}

/** @param more conditions besides, with a space before */
export function failsafes(
  ports: readonly Failsafe[],
  other: '-s' | '-d',
  family: Family,
  side: '--dports' | '--sports' = '--dports',
  more = '',
): RuleText[] {
  return ports
    .filter(({ net }) => net === undefined || familyOf(net) === family)
    .map(({ protocol, port, net }) => {
      const end = net === undefined ? '' : ` ${other} ${net}`;
      return `-p ${protocol}${end} -m multiport ${side} ${port}${more} -j ACCEPT`;
    });
}

/** Router and neighbour discovery (RFC 4861) and multicast listeners (RFC 2710), without which there is no IPv6. */
export function neighbours(family: Family): RuleText[] {
  const types = family === 6 ? [130, 131, 132, 133, 134, 135, 136] : [];
  return types.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`);
}

/** What the node itself puts into its tunnels: policy was asked about what is inside. */
function tunnels(family: Family, { vxlanPort }: HostOptions): RuleText[] {
  return [
    `-p udp -m multiport --dports ${vxlanPort} -m addrtype --src-type LOCAL -j ACCEPT`,
    ...(family === 4 ? ['-p 4 -m addrtype --src-type LOCAL -j ACCEPT'] : []),
  ];
}
