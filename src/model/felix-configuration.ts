import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { familyOf, parseCidr, parseIp } from './address.ts';

/*
 * FelixConfiguration (`projectcalico.org/v3`): what one node (`node.<name>`), the nodes that `nodeSelector` picks, or all
 * (`default`) have as agent settings. Only what this agent honours is typed; other fields are kept as they are.
 */

/** A duration as Go writes it: `90s`, `1m30s`, `500ms`, `0`. */
const goDuration = /^(?:0|(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s))+)$/;
const duration = z.string().regex(goDuration, 'expected a duration such as 90s or 1m30s');
const port = z.number().int().min(1).max(65535);
const mtu = z.number().int().min(0).max(65535);
const host = z.string().regex(/^[A-Za-z0-9.:_-]{1,253}$/, 'expected a host name or an IP address');

/** Ports as Calico's resource has them. */
const hostPorts = z.array(
  z.strictObject({
    protocol: word('TCP', 'UDP', 'SCTP'),
    port,
    net: z.string().refine(isPrefix, 'expected a prefix').optional(),
  }),
);

function isPrefix(text: string): boolean {
  try {
    parseCidr(text);
    return text.includes('/');
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

function isAddress4(text: string): boolean {
  try {
    return familyOf(parseIp(text)) === 4;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/** A word in any letter case, as Calico takes it. */
function word(...words: readonly string[]) {
  const known = new Set(words.map((one) => one.toLowerCase()));
  return z.string().refine((text) => known.has(text.toLowerCase()), `expected one of ${words.join(', ')}`);
}

/** The fields that the agent honours, by Calico's names. */
export const felixFields = {
  interfacePrefix: z.string().regex(/^[a-zA-Z][a-zA-Z0-9_-]{0,3}$/, 'expected one to four letters or digits'),
  ipv6Support: z.boolean(),
  iptablesBackend: word('Auto', 'Legacy', 'NFT'),
  /** Ports of the host that no host endpoint's policy closes. */
  failsafeInboundHostPorts: hostPorts,
  failsafeOutboundHostPorts: hostPorts,
  /** Ours: whether connections that a tightened policy no longer allows go on, as with Calico, or are cut. */
  establishedFlows: word('Keep', 'Cut'),
  /** Ours: which verdicts of policy `margayctl flows` shows. */
  verdictLogs: word('Denied', 'All', 'None'),
  serviceLoopPrevention: word('Drop', 'Reject', 'Disabled'),
  defaultEndpointToHostAction: word('Drop', 'Return', 'Accept'),
  routeRefreshInterval: duration,
  ipsetsRefreshInterval: duration,
  iptablesRefreshInterval: duration,
  iptablesPostWriteCheckInterval: duration,
  /** Ours: how long BGP's routes outlive a speaker that went away. */
  staleRouteInterval: duration,
  /** How often the status is written to etcd, and how long it stands. */
  reportingInterval: duration,
  reportingTTL: duration,
  healthEnabled: z.boolean(),
  healthHost: host,
  healthPort: port,
  prometheusMetricsEnabled: z.boolean(),
  prometheusMetricsHost: host,
  prometheusMetricsPort: port,
  logSeverityScreen: word('Trace', 'Debug', 'Info', 'Warn', 'Warning', 'Error', 'Fatal', 'None'),
  /** Whither packets of pools with natOutgoing go with the pod's address. */
  natOutgoingExclusions: word('IPPoolsOnly', 'IPPoolsAndHostIPs'),
  natOutgoingAddress: z.string().refine((text) => text === '' || isAddress4(text), 'expected an IPv4 address'),
  /** A port, or a range as text: `1024:65535`. */
  natPortRange: z.union([
    z.number().int().min(0).max(65535),
    z.string().regex(/^(\d{1,5}(:\d{1,5})?)?$/, 'expected a port or a range'),
  ]),
  iptablesNATOutgoingInterfaceFilter: z
    .string()
    .regex(/^([a-zA-Z0-9:._-]{0,14}[a-zA-Z0-9:._+-])?$/, 'expected the name of a device, or its beginning and +'),
  /** Whether a pod's `allowedSourcePrefixes` holds. */
  workloadSourceSpoofing: word('Disabled', 'Any'),
  ipForwarding: word('Enabled', 'Disabled'),
  allowVXLANPacketsFromWorkloads: z.boolean(),
  allowIPIPPacketsFromWorkloads: z.boolean(),
  disableConntrackInvalidCheck: z.boolean(),
  logPrefix: z.string().regex(/^[\w .-]{0,27}$/, 'expected at most 27 letters, digits and . _ -'),
  dataplaneWatchdogTimeout: duration,
  ipipEnabled: z.boolean(),
  ipipMTU: mtu,
  /** Hosts besides the nodes that may send tunnel packets. */
  externalNodesList: z.array(z.string().refine(isPrefix, 'expected a prefix')),
  /** Ours: the tunnel that the agent itself carries where the kernel has none. */
  udpTunnelPort: port,
  udpTunnelMTU: mtu,
  vxlanEnabled: z.boolean(),
  vxlanMTU: mtu,
  vxlanMTUV6: mtu,
  vxlanPort: port,
  vxlanVNI: z
    .number()
    .int()
    .min(1)
    .max(2 ** 24 - 1),
} as const;

export type FelixField = keyof typeof felixFields;

export const felixConfigurationSpec = z.looseObject({ ...felixFields, nodeSelector: z.string() }).partial();

/** Seconds of a Go duration, or of a bare number as the environment has it; NaN when it is neither. */
export function durationSeconds(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (!goDuration.test(text)) return Number.NaN;
  const units: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, us: 1e-6, µs: 1e-6, ns: 1e-9 };
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)/g))
    total += Number(amount) * (units[unit ?? ''] ?? 0);
  return total;
}
