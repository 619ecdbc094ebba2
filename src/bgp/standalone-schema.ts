import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { maxMd5Key } from '../kernel/socket.ts';
import { type Cidr, familyOf, type Ip, ipBytes, parseCidr, parseIp, splitCidr } from '../model/address.ts';
import { asNumber, bgpFilterSpec, bgpPeerSpec, isCommunity } from '../model/bgp.ts';
import { parseExtendedCommunity } from './communities.ts';
import { parseCommunity } from './filter-resource.ts';
import { type Limits, limitBounds } from './limits.ts';
import { defaultMetrics } from './metrics-settings.ts';

/* The file of `margay bgp --config`: fields, defaults and limits. What fields mean together is in standalone.ts. */

/** A text that `parse` understands, as what it makes of it. */
function parsed<T>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      context.addIssue({ code: 'custom', message: `expected ${thrown.expected}` });
      return z.NEVER;
    }
  });
}

const ip = parsed((text): Ip => parseIp(text));
const cidr = parsed((text): Cidr => parseCidr(text));
const identifier = ip.refine(
  (address) => familyOf(address) === 4 && address !== '0.0.0.0',
  'expected an IPv4 address other than 0.0.0.0',
);
const asn = z
  .union([z.number(), z.string()], { error: 'expected an AS number from 1 to 4294967295' })
  .transform((value, context): number => {
    const result = asNumber.safeParse(value);
    if (result.success) return result.data;
    context.addIssue({ code: 'custom', message: 'expected an AS number from 1 to 4294967295' });
    return z.NEVER;
  });
const port = z.number().int().min(1).max(65535);
const device = z.string().regex(/^[^\s/%]{1,15}$/, 'expected a network device name');
const title = z.string().regex(/^[\w.:%-]{1,100}$/, 'expected letters, digits, and . : % _ -');

/** One that a host can have. @throws InputError */
function unicast(address: Ip): Ip {
  const [first = 0] = ipBytes(address);
  const wrong = familyOf(address) === 4 ? first === 0 || first >= 224 : first === 0xff || address === '::';
  if (wrong) throw new InputError('address', address, 'an address that a host can have');
  return address;
}

/** An address of this host with the length of its subnet; without one it is alone in it. */
const ownAddress = parsed((text) => ({
  address: unicast(text.includes('/') ? splitCidr(text).address : parseIp(text)),
  subnet: parseCidr(text),
}));

/** `10.0.0.2`, `fd00::2`, `fe80::2%eth0`. */
const remote = parsed((text) => {
  const [, address = '', zone] = /^([^%]*)(?:%(.*))?$/.exec(text) ?? [];
  if (zone !== undefined && !device.safeParse(zone).success)
    throw new InputError('address', text, 'a device name after the %');
  return { address: unicast(parseIp(address)), ...(zone === undefined ? {} : { zone }) };
});

const seconds = (least: number, most: number) => z.number().int().min(least).max(most);

/** Options that neighbours and listen ranges have alike. */
const options = {
  asn,
  families: z
    .array(z.enum(['ipv4', 'ipv6']))
    .min(1)
    .optional(),
  localAddress: ip.optional(),
  interface: device.optional(),
  password: z
    .string()
    .min(1)
    .refine((text) => Buffer.byteLength(text) <= maxMd5Key, `expected at most ${maxMd5Key} octets`)
    .optional(),
  passwordFile: z.string().min(1).optional(),
  ttlSecurity: z.number().int().min(1).max(254).optional(),
  holdSeconds: seconds(0, 65535)
    .refine((value) => value !== 1 && value !== 2, 'expected 0, or 3 and more')
    .default(90),
  keepaliveSeconds: seconds(1, 21845).optional(),
  sendHoldSeconds: seconds(1, 86400).optional(),
  /** MinRouteAdvertisementIntervalTimer. RFC 4271 §9.2.1.1. */
  advertisementIntervalSeconds: seconds(0, 600).default(0),
  restartSeconds: seconds(0, 4095).default(120),
  acceptDefault: z.boolean().default(false),
  nextHopMode: z.enum(['auto', 'self', 'keep']).default('auto'),
  /** IPv6 next hops of IPv4 prefixes. RFC 8950. */
  extendedNextHop: z.boolean().optional(),
  /** Several paths of a prefix. RFC 7911. */
  addPath: z
    .strictObject({
      send: z
        .string()
        .regex(/^(all|best ([2-9]|[1-9]\d))$/, 'expected all, or best and a number of paths from 2 to 99')
        .transform((text): 'all' | number => (text === 'all' ? text : Number(text.slice('best '.length))))
        .optional(),
      receive: z.boolean().default(false),
    })
    .optional(),
  localAsn: asn.optional(),
  allowedLocalAs: z.number().int().min(0).max(255).optional(),
  removePrivateAs: z.boolean().default(false),
  /** Of each family. */
  maxPrefixes: z
    .strictObject({
      limit: z.number().int().min(1).max(4294967295),
      warnPercent: z.number().int().min(1).max(100).default(75),
      warnOnly: z.boolean().default(false),
      restartSeconds: seconds(1, 86400).optional(),
    })
    .optional(),
  bfd: bgpPeerSpec.shape.bfd,
  routeReflectorClient: z.boolean().default(false),
  filters: z.array(z.string()).default([]),
};

const uint32 = z.number().int().min(0).max(0xffffffff);

const ownCommunity = z
  .string()
  .refine(isCommunity, 'expected a community: 65000:100, or 65000:1:2 for a large one')
  .transform(parseCommunity);

/** A prefix, alone or with what its announcement carries. */
const origination = z.preprocess(
  (value) => (typeof value === 'string' ? { prefix: value } : value),
  z.strictObject({
    prefix: cidr,
    communities: z.array(ownCommunity).optional(),
    extendedCommunities: z.array(parsed((text) => parseExtendedCommunity(text))).optional(),
    med: uint32.optional(),
    localPref: uint32.optional(),
  }),
);

function limit(key: keyof Limits) {
  const [, least, most] = limitBounds[key];
  return z.number().int().min(least).max(most).optional();
}

export const standaloneSchema = z.strictObject({
  asn,
  routerId: identifier,
  /** Of this speaker as a route reflector; absent: the router id. */
  clusterId: identifier.optional(),
  /** BMP stations. RFC 7854. */
  bmp: z
    .array(z.strictObject({ address: ip, port, policy: z.enum(['pre', 'post', 'both']).default('post') }))
    .optional(),
  listen: z.strictObject({ port: port.default(179), addresses: z.array(ip).min(1).optional() }).default({ port: 179 }),
  /** This host's addresses: the next hop of what it announces, one of each family that is spoken. */
  addresses: z.array(ownAddress).default([]),
  /** Where the control socket is served; absent: nowhere. */
  control: z.string().min(1).optional(),
  /** Where the route feed is served; absent: nowhere. */
  routes: z.string().min(1).optional(),
  originate: z.array(origination).default([]),
  /** Paths need a route of this host to their next hop, and the nearer one is preferred. */
  trackNextHops: z.boolean().default(false),
  /** What strangers may make the process hold (limits.ts). */
  limits: z
    .strictObject({
      messageOctets: limit('messageOctets'),
      asPathLength: limit('asPathLength'),
      communities: limit('communities'),
      peers: limit('peers'),
      queuedOctets: limit('queuedOctets'),
      bfdSessions: limit('bfdSessions'),
      bmpQueuedOctets: limit('bmpQueuedOctets'),
    })
    .default({}),
  /** Prometheus metrics over HTTP; absent: none. */
  metrics: z
    .strictObject({ host: z.string().min(1).default(defaultMetrics.host), port: port.default(defaultMetrics.port) })
    .optional(),
  /** By name, as the spec of a BGPFilter. */
  filters: z.record(z.string(), bgpFilterSpec.strict()).default({}),
  neighbors: z
    .array(
      z.strictObject({
        name: title.optional(),
        address: remote,
        port: port.default(179),
        passive: z.boolean().default(false),
        ...options,
      }),
    )
    .default([]),
  ranges: z
    .array(
      z.strictObject({
        name: title.optional(),
        prefix: cidr,
        limit: z.number().int().min(1).max(65535).default(100),
        ...options,
      }),
    )
    .default([]),
});

export type StandaloneFile = z.output<typeof standaloneSchema>;
export type NeighborOptions = StandaloneFile['neighbors'][number];
export type RangeOptions = StandaloneFile['ranges'][number];
