import type { RuleText } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import { everyInterface } from '../../model/host-endpoint.ts';
import type { EndpointPolicy, NodePolicy } from '../ir.ts';
import { type EndpointOptions, profileRules, tierRules } from './endpoint.ts';
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
  readonly forwardFrom: readonly RuleText[];
  readonly forwardTo: readonly RuleText[];
}

/**
 * The chains of a node's host endpoints. A device without one of its own belongs to that of all devices, if there is one;
 * pods' devices and the loopback device to none.
 */
export function hostRules(policy: NodePolicy, family: Family, options: HostOptions): HostRules {
  const hosts = oneEach([...policy.endpoints.values()].filter(({ host }) => host));
  if (hosts.length === 0) return { chains: [], input: [], output: [], forwardFrom: [], forwardTo: [] };
  const from = forward(hosts, 'ingress', policy, options);
  const to = forward(hosts, 'egress', policy, options);
  const decided = [`-m mark --mark ${acceptMark} -j ACCEPT`];
  const clear = '-j MARK --set-xmark 0x0/0x30000';
  return {
    chains: [
      [chains.failsafeIn, failsafes(options.failsafeInbound, '-s', family)],
      [chains.failsafeOut, failsafes(options.failsafeOutbound, '-d', family)],
      [chains.fromHost, dispatch(hosts, 'ingress', 'endpoint', options)],
      [chains.toHost, dispatch(hosts, 'egress', 'endpoint', options)],
      ...hosts.flatMap((host) =>
        (['ingress', 'egress'] as const).map((direction): Chains[number] => [
          nameOf(host, direction, 'endpoint'),
          ownChain(host, direction, family, policy, options),
        ]),
      ),
      ...from,
      ...to,
    ],
    input: [clear, `-j ${chains.fromHost}`, ...decided],
    output: [clear, ...tunnels(family, options), `-j ${chains.toHost}`, ...decided],
    forwardFrom: from.length > 0 ? [`-j ${chains.fromHostForward}`] : [],
    forwardTo: to.length > 0 ? [`-j ${chains.toHostForward}`] : [],
  };
}

/** Of two that claim a device, the first by name. */
function oneEach(hosts: readonly EndpointPolicy[]): EndpointPolicy[] {
  const sorted = hosts.toSorted((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
  const byDevice = new Map<string, EndpointPolicy>();
  for (const host of sorted) if (!byDevice.has(host.interfaceName)) byDevice.set(host.interfaceName, host);
  return [...byDevice.values()];
}

function nameOf({ interfaceName }: EndpointPolicy, direction: 'ingress' | 'egress', what: 'endpoint' | 'forward') {
  const device = interfaceName === everyInterface ? 'any-interface-at-all' : interfaceName;
  return chainName(hostPrefixes[direction][what], device);
}

function dispatch(
  hosts: readonly EndpointPolicy[],
  direction: 'ingress' | 'egress',
  what: 'endpoint' | 'forward',
  { interfacePrefix }: HostOptions,
): RuleText[] {
  const flag = direction === 'ingress' ? '-i' : '-o';
  const named = hosts.filter(({ interfaceName }) => interfaceName !== everyInterface);
  const all = hosts.find(({ interfaceName }) => interfaceName === everyInterface);
  return [
    ...named.map((host) => `${flag} ${host.interfaceName} -g ${nameOf(host, direction, what)}`),
    ...(all
      ? [`${flag} ${interfacePrefix}+ -j RETURN`, `${flag} lo -j RETURN`, `-g ${nameOf(all, direction, what)}`]
      : []),
  ];
}

const established = '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT';

function head({ dropInvalid, dropMidstream }: HostOptions): RuleText[] {
  return [
    established,
    ...(dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
    ...(dropMidstream ? ['-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP'] : []),
  ];
}

/** The host's own traffic: failsafe ports, then tiers and profiles, and what nothing allows is dropped. */
function ownChain(
  host: EndpointPolicy,
  direction: 'ingress' | 'egress',
  family: Family,
  policy: NodePolicy,
  options: HostOptions,
): RuleText[] {
  return [
    ...head(options),
    ...(family === 6 ? neighbourTypes.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`) : []),
    `-j ${direction === 'ingress' ? chains.failsafeIn : chains.failsafeOut}`,
    '-j MARK --set-xmark 0x0/0x30000',
    ...tierRules(host.tiers, direction, policy),
    ...profileRules(host.profiles, direction, policy),
    '-j DROP',
  ];
}

/**
 * The chains of forwarded traffic, which only policies with `applyOnForward` decide; none without such a policy. What
 * they pass on goes its way; on the way out it keeps what a pod's policy decided before.
 */
function forward(
  hosts: readonly EndpointPolicy[],
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  options: HostOptions,
): Chains {
  const tiersOf = ({ host }: EndpointPolicy) => host?.forward ?? [];
  const asked = hosts.filter((host) => tiersOf(host).some((tier) => tier[direction].length > 0));
  if (asked.length === 0) return [];
  // A device of its own without such a policy is not subject to that of all devices.
  const silent = hosts.filter((host) => !asked.includes(host));
  return [
    [
      direction === 'ingress' ? chains.fromHostForward : chains.toHostForward,
      dispatch(hosts, direction, 'forward', options),
    ],
    ...silent.map((host): Chains[number] => [nameOf(host, direction, 'forward'), []]),
    ...asked.map((host): Chains[number] => [
      nameOf(host, direction, 'forward'),
      [
        ...head(options),
        '-j MARK --set-xmark 0x0/0x30000',
        ...tierRules(tiersOf(host), direction, policy),
        ...(direction === 'egress' ? [`-g ${chains.accept}`] : []),
      ],
    ]),
  ];
}

function failsafes(ports: readonly Failsafe[], other: '-s' | '-d', family: Family): RuleText[] {
  return ports
    .filter(({ net }) => net === undefined || familyOf(net) === family)
    .map(({ protocol, port, net }) => {
      const end = net === undefined ? '' : ` ${other} ${net}`;
      return `-p ${protocol}${end} -m multiport --dports ${port} -j ACCEPT`;
    });
}

/** What the node itself puts into its tunnels: policy was asked about what is inside. */
function tunnels(family: Family, { vxlanPort }: HostOptions): RuleText[] {
  return [
    `-p udp -m multiport --dports ${vxlanPort} -m addrtype --src-type LOCAL -j ACCEPT`,
    ...(family === 4 ? ['-p 4 -m addrtype --src-type LOCAL -j ACCEPT'] : []),
  ];
}

/** Router and neighbour discovery (RFC 4861) and multicast listeners (RFC 2710), without which there is no IPv6. */
const neighbourTypes = [130, 131, 132, 133, 134, 135, 136];
