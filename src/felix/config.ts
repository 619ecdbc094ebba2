import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { familyOf, parseCidr, parseIp } from '../model/address.ts';
import { durationSeconds, type FelixField } from '../model/felix-configuration.ts';
import { defaultFailsafe, formatFailsafe, parseFailsafe } from '../policy/render/failsafe.ts';
import { defaultRenderOptions } from '../policy/render.ts';
import type { NatExclusions } from './calc/nat.ts';
import type { LoopPrevention } from './calc/service-loops.ts';
import { nearest } from './nearest.ts';

/** What felix honours of Calico's settings, with Calico's names and defaults. */
export interface FelixConfig {
  /** Prefix of the host side devices of pods. */
  readonly interfacePrefix: string;
  readonly ipv6Support: boolean;
  readonly iptablesBackend: 'auto' | 'legacy' | 'nft';
  /** What happens to packets from a pod to its own host that policy let out. */
  readonly endpointToHost: 'DROP' | 'RETURN' | 'ACCEPT';
  /** Seconds between reading everything again; 0 never. */
  readonly routeRefreshSeconds: number;
  readonly ipsetsRefreshSeconds: number;
  readonly iptablesRefreshSeconds: number;
  /** Seconds between two looks for what others changed in rules, IP sets and sysctls; 0 never. */
  readonly checkSeconds: number;
  /** Seconds that BGP routes outlive a broken route feed. */
  readonly staleRouteSeconds: number;
  /** Seconds between two writes of the status to etcd; 0 never. */
  readonly reportingSeconds: number;
  /** Seconds that such a status stands; 0 until it is written over. */
  readonly reportingTtlSeconds: number;
  readonly healthEnabled: boolean;
  readonly healthHost: string;
  readonly healthPort: number;
  readonly metricsEnabled: boolean;
  readonly metricsHost: string;
  readonly metricsPort: number;
  readonly logLevel: string;
  /** `auto`: when a pool wants it. */
  readonly vxlanEnabled: boolean | 'auto';
  /** Octets; 0: the uplink's less the overhead. */
  readonly vxlanMtu: number;
  readonly vxlanMtuV6: number;
  readonly vxlanPort: number;
  readonly vxlanVni: number;
  /** `auto`: when a pool wants it. */
  readonly ipipEnabled: boolean | 'auto';
  /** Octets; 0: the uplink's less the overhead. */
  readonly ipipMtu: number;
  /** Prefixes, with commas between, of hosts besides the nodes that may send tunnel packets. */
  readonly externalNodes: string;
  /** UDP, of the userspace tunnel. */
  readonly udpTunnelPort: number;
  /** Octets; 0: the uplink's less the overhead. */
  readonly udpTunnelMtu: number;
  /** Ports of the host that no policy closes, as `parseFailsafe` reads them. */
  readonly failsafeInbound: string;
  readonly failsafeOutbound: string;
  /** What becomes of connections that a tightened policy no longer allows. */
  readonly establishedFlows: 'keep' | 'cut';
  /** Which verdicts of policy are told by NFLOG. */
  readonly verdictLogs: 'denied' | 'all' | 'none';
  /** Whither packets of pools with natOutgoing go with the pod's address: the pools, or the nodes as well. */
  readonly natExclusions: NatExclusions;
  /** IPv4 address, range of ports and device of outgoing NAT; empty: any. */
  readonly natAddress: string;
  readonly natPorts: string;
  readonly natDevice: string;
  /** Whether pods may be given sources besides their own addresses, `allowedSourcePrefixes`. */
  readonly sourceSpoofing: boolean;
  /** Whether forwarding is switched on in the kernel. */
  readonly ipForwarding: boolean;
  /** Whether pods may send packets of tunnels of their own. */
  readonly allowVxlan: boolean;
  readonly allowIpip: boolean;
  /** Whether packets that belong to no connection pass on to policy. */
  readonly passInvalid: boolean;
  /** Begins the kernel's log line of a Log rule. */
  readonly logPrefix: string;
  /** Seconds that a pass may take before the agent counts as hung. */
  readonly watchdogSeconds: number;
  /** What becomes of packets to a service address that nobody serves. */
  readonly serviceLoops: LoopPrevention;
}

type Parse<V> = (text: string, name: string) => V;

interface Setting<V> {
  /** In FelixConfiguration; upper case and after `FELIX_` it is the environment's. */
  readonly field: FelixField;
  /** Other names in the environment. */
  readonly also?: readonly string[];
  readonly parse: Parse<V>;
  readonly absent: V;
  /** Takes effect at the next start only. */
  readonly fixed?: boolean;
}

const actions = choice({ drop: 'DROP', return: 'RETURN', accept: 'ACCEPT' });
const check = 'iptablesPostWriteCheckInterval';

export const settings: { readonly [K in keyof FelixConfig]: Setting<FelixConfig[K]> } = {
  interfacePrefix: { field: 'interfacePrefix', parse: devicePrefix, absent: 'cali', fixed: true },
  ipv6Support: { field: 'ipv6Support', parse: boolean, absent: true, fixed: true },
  iptablesBackend: {
    field: 'iptablesBackend',
    parse: choice({ auto: 'auto', legacy: 'legacy', nft: 'nft' }),
    absent: 'auto',
    fixed: true,
  },
  endpointToHost: { field: 'defaultEndpointToHostAction', parse: actions, absent: 'DROP' },
  routeRefreshSeconds: { field: 'routeRefreshInterval', parse: seconds, absent: 90 },
  ipsetsRefreshSeconds: { field: 'ipsetsRefreshInterval', parse: seconds, absent: 90 },
  iptablesRefreshSeconds: { field: 'iptablesRefreshInterval', parse: seconds, absent: 180 },
  checkSeconds: { field: check, also: ['IPTABLESPOSTWRITECHECKINTERVALSECS'], parse: seconds, absent: 5 },
  staleRouteSeconds: { field: 'staleRouteInterval', parse: seconds, absent: 120 },
  reportingSeconds: { field: 'reportingInterval', also: ['REPORTINGINTERVALSECS'], parse: seconds, absent: 30 },
  reportingTtlSeconds: { field: 'reportingTTL', also: ['REPORTINGTTLSECS'], parse: seconds, absent: 90 },
  healthEnabled: { field: 'healthEnabled', parse: boolean, absent: false },
  healthHost: { field: 'healthHost', parse: host, absent: 'localhost' },
  healthPort: { field: 'healthPort', parse: port, absent: 9099 },
  metricsEnabled: { field: 'prometheusMetricsEnabled', parse: boolean, absent: false },
  metricsHost: { field: 'prometheusMetricsHost', parse: host, absent: 'localhost' },
  metricsPort: { field: 'prometheusMetricsPort', parse: port, absent: 9091 },
  logLevel: { field: 'logSeverityScreen', parse: level, absent: 'info' },
  vxlanEnabled: { field: 'vxlanEnabled', parse: boolean, absent: 'auto' },
  vxlanMtu: { field: 'vxlanMTU', parse: mtu, absent: 0 },
  vxlanMtuV6: { field: 'vxlanMTUV6', parse: mtu, absent: 0 },
  vxlanPort: { field: 'vxlanPort', parse: port, absent: 4789 },
  vxlanVni: { field: 'vxlanVNI', parse: vni, absent: 4096 },
  ipipEnabled: { field: 'ipipEnabled', also: ['IPINIPENABLED'], parse: boolean, absent: 'auto' },
  ipipMtu: { field: 'ipipMTU', also: ['IPINIPMTU'], parse: mtu, absent: 0 },
  externalNodes: { field: 'externalNodesList', also: ['EXTERNALNODESCIDRLIST'], parse: prefixes, absent: '' },
  udpTunnelPort: { field: 'udpTunnelPort', parse: port, absent: 8286 },
  udpTunnelMtu: { field: 'udpTunnelMTU', parse: mtu, absent: 0 },
  failsafeInbound: {
    field: 'failsafeInboundHostPorts',
    parse: failsafe,
    absent: formatFailsafe(defaultFailsafe.inbound),
  },
  failsafeOutbound: {
    field: 'failsafeOutboundHostPorts',
    parse: failsafe,
    absent: formatFailsafe(defaultFailsafe.outbound),
  },
  establishedFlows: { field: 'establishedFlows', parse: choice({ keep: 'keep', cut: 'cut' }), absent: 'keep' },
  verdictLogs: {
    field: 'verdictLogs',
    parse: choice({ denied: 'denied', all: 'all', none: 'none' }),
    absent: 'denied',
  },
  natExclusions: {
    field: 'natOutgoingExclusions',
    parse: choice({ ippoolsonly: 'pools', ippoolsandhostips: 'poolsAndHosts' }),
    absent: 'pools',
  },
  natAddress: { field: 'natOutgoingAddress', parse: address4, absent: '' },
  natPorts: { field: 'natPortRange', parse: portRange, absent: '' },
  natDevice: { field: 'iptablesNATOutgoingInterfaceFilter', parse: deviceFilter, absent: '' },
  sourceSpoofing: {
    field: 'workloadSourceSpoofing',
    parse: choice({ any: true, disabled: false }),
    absent: false,
    fixed: true,
  },
  ipForwarding: { field: 'ipForwarding', parse: choice({ enabled: true, disabled: false }), absent: true },
  allowVxlan: { field: 'allowVXLANPacketsFromWorkloads', parse: boolean, absent: false },
  allowIpip: { field: 'allowIPIPPacketsFromWorkloads', parse: boolean, absent: false },
  passInvalid: { field: 'disableConntrackInvalidCheck', parse: boolean, absent: false },
  logPrefix: { field: 'logPrefix', parse: prefix, absent: defaultRenderOptions.logPrefix },
  watchdogSeconds: { field: 'dataplaneWatchdogTimeout', parse: watchdog, absent: 90 },
  serviceLoops: {
    field: 'serviceLoopPrevention',
    parse: choice({ drop: 'DROP', reject: 'REJECT', disabled: 'DISABLED' }),
    absent: 'DROP',
  },
};

export const settingNames = Object.keys(settings) as (keyof FelixConfig)[];

/** A value as text, and where it stands, for messages and explanations. */
export interface Given {
  readonly text: string;
  readonly origin: string;
  /** Named in an InputError. */
  readonly name: string;
}

/** Values by field name in upper case. */
export type GivenBySetting = ReadonlyMap<string, Given>;

/** One setting of the configuration in force. */
export type Explained = {
  readonly [K in keyof FelixConfig]: { readonly value: FelixConfig[K]; readonly origin: string };
};

/**
 * The first of the sources that has a setting decides it; without any, the built-in value.
 * @throws InputError naming where the value stands
 */
export function explainConfig(sources: readonly GivenBySetting[]): Explained {
  const read = <K extends keyof FelixConfig>(key: K) => {
    const { field, parse, absent } = settings[key];
    const upper = field.toUpperCase();
    const given = sources.find((source) => source.has(upper))?.get(upper);
    return given
      ? { value: parse(given.text, given.name), origin: given.origin }
      : { value: absent, origin: 'built-in default' };
  };
  return Object.fromEntries(settingNames.map((key) => [key, read(key)])) as Explained;
}

export function configOf(explained: Explained): FelixConfig {
  return Object.fromEntries(settingNames.map((key) => [key, explained[key].value])) as unknown as FelixConfig;
}

/** Every name of a setting in upper case → its field's, which is the key of a GivenBySetting. */
export const settingKeys: ReadonlyMap<string, string> = new Map(
  Object.values(settings).flatMap(({ field, also = [] }: Setting<unknown>) =>
    [field, ...also].map((name) => [name.toUpperCase(), field.toUpperCase()] as const),
  ),
);

/**
 * The FELIX_* of an environment (any letter case, as Calico does); an empty value is none. A variable that felix does
 * not know is named in a warning, with the nearest name it knows.
 */
export function readEnvironment(environment: Readonly<Record<string, string | undefined>>, log: Log): GivenBySetting {
  const names = settingKeys;
  const found = new Map<string, Given>();
  for (const [variable, value] of Object.entries(environment)) {
    const upper = variable.toUpperCase();
    if (value === undefined || !upper.startsWith('FELIX_')) continue;
    const name = upper.slice(6);
    const key = names.get(name);
    if (key === undefined) {
      const near = nearest(name, [...names.keys()]);
      log.warn({ variable, ...(near && { didYouMean: `FELIX_${near}` }) }, 'unknown setting has no effect');
    } else if (value.trim() !== '')
      found.set(key, { text: value.trim(), origin: `environment variable ${variable}`, name: variable });
  }
  return found;
}

/** The configuration of the environment alone. @throws InputError naming the variable and its value */
export function readFelixConfig(environment: Readonly<Record<string, string | undefined>>, log: Log): FelixConfig {
  return configOf(explainConfig([readEnvironment(environment, log)]));
}

function boolean(text: string, name: string): boolean {
  const value = text.toLowerCase();
  if (['true', '1', 'yes', 'y', 't'].includes(value)) return true;
  if (['false', '0', 'no', 'n', 'f'].includes(value)) return false;
  throw new InputError(name, text, 'true or false');
}

function failsafe(text: string, name: string): string {
  return formatFailsafe(parseFailsafe(text, name));
}

/** An IP set holds no prefix of length 0. */
function prefixes(text: string, name: string): string {
  if (text.toLowerCase() === 'none') return '';
  return text
    .split(',')
    .map((one) => {
      const cidr = parseCidr(one.trim(), name);
      if (cidr.endsWith('/0')) throw new InputError(name, one, 'prefixes longer than /0');
      return cidr;
    })
    .join(',');
}

function seconds(text: string, name: string): number {
  const value = durationSeconds(text);
  // Timers of the runtime hold at most 2^31-1 milliseconds.
  if (!(value <= 2_000_000)) throw new InputError(name, text, 'seconds from 0 (never) to 2000000');
  return value;
}

function watchdog(text: string, name: string): number {
  const value = seconds(text, name);
  if (value < 1) throw new InputError(name, text, 'at least a second');
  return value;
}

function address4(text: string, name: string): string {
  const found = parseIp(text, name);
  if (familyOf(found) !== 4) throw new InputError(name, text, 'an IPv4 address');
  return found;
}

/** One port or `first:last`; 0 is none. */
function portRange(text: string, name: string): string {
  if (text === '0') return '';
  const [first = Number.NaN, last = first] = /^\d{1,5}(:\d{1,5})?$/.test(text) ? text.split(':').map(Number) : [];
  if (!(first >= 1 && first <= last && last <= 65535))
    throw new InputError(name, text, 'a port or a range such as 1024:65535');
  return `${first}:${last}`;
}

function deviceFilter(text: string, name: string): string {
  if (!/^[a-zA-Z0-9:._-]{0,14}[a-zA-Z0-9:._+-]$/.test(text))
    throw new InputError(name, text, 'the name of a device, or its beginning and +');
  return text;
}

function prefix(text: string, name: string): string {
  if (!/^[\w .-]{1,27}$/.test(text)) throw new InputError(name, text, 'at most 27 letters, digits and . _ -');
  return text;
}

function port(text: string, name: string): number {
  return whole(text, name, 1, 65535, 'a port from 1 to 65535');
}

function mtu(text: string, name: string): number {
  return whole(text, name, 0, 65535, 'a number from 0 (automatic) to 65535');
}

/** VXLAN network identifier, 24 bits. RFC 7348 §5. */
function vni(text: string, name: string): number {
  return whole(text, name, 1, 2 ** 24 - 1, 'a number from 1 to 16777215');
}

function whole(text: string, name: string, least: number, most: number, expected: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw new InputError(name, text, expected);
  return value;
}

function host(text: string, name: string): string {
  if (!/^[A-Za-z0-9.:_-]{1,253}$/.test(text)) throw new InputError(name, text, 'a host name or an IP address');
  return text;
}

/** Calico's names, in pino's words. */
function level(text: string, name: string): string {
  const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
  const value = text.toLowerCase().replace('warning', 'warn').replace('none', 'silent');
  if (!levels.includes(value)) throw new InputError(name, text, `one of ${levels.join(', ')}`);
  return value;
}

/** A pod's device has eleven hexadecimal digits after the prefix, and a device name fifteen characters. */
function devicePrefix(text: string, name: string): string {
  if (!/^[a-zA-Z][a-zA-Z0-9_-]{0,3}$/.test(text)) throw new InputError(name, text, 'one to four letters or digits');
  return text;
}

function choice<V extends string | boolean>(values: Readonly<Record<string, V>>): Parse<V> {
  return (text, name) => {
    const key = text.toLowerCase();
    const found = Object.hasOwn(values, key) ? values[key] : undefined;
    if (found === undefined) throw new InputError(name, text, `one of ${Object.keys(values).join(', ')}`);
    return found;
  };
}
