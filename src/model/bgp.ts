import { z } from 'zod';
import { cidr, ip } from './fields.ts';

/* BGPConfiguration, BGPPeer and BGPFilter of `projectcalico.org/v3`, with the fields that are ours. */

/** AS number: a number, its decimal text, or asdot (`1.10`). RFC 5396. */
export const asNumber = z.union([z.number(), z.string()]).transform((value, context): number => {
  // A number with a fraction has lost its zeros: 1.10 in YAML is 1.1, another AS number.
  const text = typeof value === 'number' && !Number.isInteger(value) ? '' : String(value);
  const dotted = /^(\d{1,5})\.(\d{1,5})$/.exec(text);
  const high = Number(dotted?.[1]);
  const low = Number(dotted?.[2]);
  const number = dotted
    ? high > 65535 || low > 65535
      ? Number.NaN
      : high * 65536 + low
    : /^\d+$/.test(text)
      ? Number(text)
      : Number.NaN;
  if (number >= 1 && number <= 0xffffffff) return number;
  context.addIssue({ code: 'custom', message: 'expected an AS number from 1 to 4294967295' });
  return z.NEVER;
});

/** `65000:100` (RFC 1997) or `65000:1:2` (RFC 8092). */
export function isCommunity(text: string): boolean {
  const parts = text.split(':').map(Number);
  const most = parts.length === 2 ? 0xffff : 0xffffffff;
  return /^\d+:\d+(:\d+)?$/.test(text) && parts.every((part) => part <= most);
}

const community = z.string().refine(isCommunity, 'expected a community: 65000:100, or 65000:1:2 for a large one');

const secretName = z.string().regex(/^[\w-][\w.-]{0,252}$/, 'expected the name of a Secret or of a key in it');
/** A password in a Kubernetes Secret. */
const password = z.looseObject({ secretKeyRef: z.looseObject({ name: secretName, key: secretName }) });

const serviceRanges = z.array(z.looseObject({ cidr })).default([]);

export const bgpConfigurationSpec = z.looseObject({
  /** Of the speaker, where the environment does not say. */
  logSeverityScreen: z
    .string()
    .regex(
      /^(trace|debug|info|warn(ing)?|error|fatal|none|silent)$/i,
      'expected Debug, Info, Warning, Error, Fatal or None',
    )
    .optional(),
  nodeToNodeMeshEnabled: z.boolean().default(true),
  asNumber: asNumber.default(64512),
  /** Default: 179. */
  listenPort: z.number().int().min(1).max(65535).optional(),
  /** NodeIP: only the node's BGP addresses are listened on. */
  bindMode: z.enum(['None', 'NodeIP']).optional(),
  nodeMeshMaxRestartTime: z.string().optional(),
  nodeMeshPassword: password.optional(),
  /** BMP stations (RFC 7854). Ours: Calico has no such field, and its objects keep it. */
  bmp: z
    .array(
      z.looseObject({
        address: ip,
        port: z.number().int().min(1).max(65535),
        policy: z.enum(['pre', 'post', 'both']).optional(),
      }),
    )
    .default([]),
  /** Ranges of service addresses; those with a length of 32 or 128 stand for one service's. */
  serviceClusterIPs: serviceRanges,
  serviceExternalIPs: serviceRanges,
  serviceLoadBalancerIPs: serviceRanges,
  /** Disabled: every load balancer address by itself, and no range. */
  serviceLoadBalancerAggregation: z.enum(['Enabled', 'Disabled']).default('Enabled'),
  /** Names for community values, which `prefixAdvertisements` may use. */
  communities: z.array(z.looseObject({ name: z.string().min(1), value: community })).default([]),
  /** Communities that routes inside a prefix are told with. */
  prefixAdvertisements: z.array(z.looseObject({ cidr, communities: z.array(z.string()) })).default([]),
});

/**
 * BFD of a BGPPeer. Ours: Calico has no such field, and its objects keep it. Milliseconds as in RFC 5880 §6.8.1, with
 * defaults that detect a failure within 900 ms; 50 ms is the shortest interval that a busy node still keeps.
 */
const bfdSpec = z.looseObject({
  minTxMs: z.number().int().min(50).max(60_000).default(300),
  minRxMs: z.number().int().min(50).max(60_000).default(300),
  multiplier: z.number().int().min(1).max(255).default(3),
  multihop: z.boolean().default(false),
});

export const bgpPeerSpec = z.looseObject({
  node: z.string().optional(),
  nodeSelector: z.string().optional(),
  /** `address` or `address:port` (`[v6]:port`). */
  peerIP: z.string().optional(),
  peerSelector: z.string().optional(),
  asNumber: asNumber.optional(),
  /** Names of BGPFilter objects, asked in this order. */
  filters: z.array(z.string()).default([]),
  bfd: bfdSpec.optional(),
  keepaliveTime: z.string().optional(),
  maxRestartTime: z.string().optional(),
  /** TCP MD5. RFC 2385. */
  password: password.optional(),
  /** Hops that the peer may be away; 0: unchecked. RFC 5082. */
  ttlSecurity: z.number().int().min(0).max(255).optional(),
  /** Stands in for the node's AS number towards this peer. */
  localASNumber: asNumber.optional(),
  numAllowedLocalASNumbers: z.number().int().min(0).max(255).optional(),
  nextHopMode: z.enum(['Auto', 'Self', 'Keep']).optional(),
  /** The older form of nextHopMode Keep. */
  keepOriginalNextHop: z.boolean().optional(),
  sourceAddress: z.enum(['UseNodeIP', 'None']).default('UseNodeIP'),
  /** Auto: the nodes that `peerSelector` picks peer back without an object of their own. */
  reversePeering: z.enum(['Auto', 'Manual']).default('Auto'),
  /** Ours: how long the peer may keep this node's routes after maxRestartTime, as last resort. RFC 9494. */
  longLivedStaleTime: z.string().optional(),
  /** Ours: accepted prefixes of a family at a time; beyond them the session ends with cease 6/1 (RFC 4486). */
  maxPrefixes: z
    .looseObject({
      limit: z.number().int().min(1).max(0xffffffff),
      warnPercent: z.number().min(1).max(100).default(75),
      /** Warn, but keep the session. */
      warnOnly: z.boolean().optional(),
      /** A duration after which the session is tried again; absent: not before an operator resets the peer. */
      restartTime: z.string().optional(),
    })
    .optional(),
  /** Ours: private AS numbers (RFC 6996) are left out of paths told to this peer in another AS. */
  removePrivateAS: z.boolean().default(false),
});

const priority = z.number().int().min(1).max(2147483646);

const bgpFilterOperation = z
  .strictObject({
    addCommunity: z.looseObject({ value: community }).optional(),
    prependASPath: z.looseObject({ prefix: z.array(asNumber).min(1).max(10) }).optional(),
    setPriority: z.looseObject({ value: priority }).optional(),
  })
  .refine((operation) => Object.keys(operation).length === 1, 'expected exactly one operation');

/** Strict: a condition that is not understood would make a rule match more than it says. */
const bgpFilterRule = z
  .strictObject({
    cidr: cidr.optional(),
    matchOperator: z.enum(['Equal', 'NotEqual', 'In', 'NotIn']).optional(),
    prefixLength: z
      .strictObject({
        min: z.number().int().min(0).max(128).optional(),
        max: z.number().int().min(0).max(128).optional(),
      })
      .optional(),
    source: z.enum(['RemotePeers']).optional(),
    interface: z.string().optional(),
    peerType: z.enum(['eBGP', 'iBGP']).optional(),
    communities: z.strictObject({ values: z.array(community).length(1) }).optional(),
    asPathPrefix: z.array(asNumber).optional(),
    priority: priority.optional(),
    action: z.enum(['Accept', 'Reject']),
    operations: z.array(bgpFilterOperation).min(1).max(10).optional(),
  })
  .refine((rule) => !rule.cidr === !rule.matchOperator, 'expected cidr and matchOperator both or neither')
  .refine((rule) => !rule.prefixLength || rule.cidr, 'expected a cidr beside prefixLength')
  .refine((rule) => !rule.operations || rule.action === 'Accept', 'expected operations only with action Accept');

export type BgpFilterRule = z.output<typeof bgpFilterRule>;

export const bgpFilterSpec = z.looseObject({
  importV4: z.array(bgpFilterRule).default([]),
  importV6: z.array(bgpFilterRule).default([]),
  exportV4: z.array(bgpFilterRule).default([]),
  exportV6: z.array(bgpFilterRule).default([]),
});
