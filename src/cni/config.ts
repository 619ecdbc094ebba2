import { z } from 'zod';
import { InputError, show } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { firstIssue } from '../model/kinds.ts';
import { CniError, cniCodes } from './error.ts';

/*
 * The network configuration that a runtime gives a plugin on standard input: CNI's own fields, Calico's as far as they
 * mean something here, and nothing else, so that a misspelt field is refused instead of ignored.
 */

/** Newest last. */
export const supportedVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof supportedVersions)[number];

/** The version that errors carry when the request names none. */
export const fallbackVersion: CniVersion = '1.0.0';

export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  /** Network name; the IPAM handle begins with it. */
  readonly name: string;
  readonly nodename?: string;
  readonly mtu?: number;
  /** Undefined: the families that the agent is configured for. */
  readonly families?: readonly Family[];
  /** Names or prefixes of the pools to take addresses of each family from; empty: any. */
  readonly poolsOf: Readonly<Record<Family, readonly string[]>>;
  /** Addresses are of the node's podCIDRs (`ipam.type` host-local). */
  readonly podCidr?: boolean;
  /** Pods may name addresses that IPAM does not know (`feature_control.ip_addrs_no_ipam`). */
  readonly bareAddresses?: boolean;
  /** How long ADD waits for the pod's policy, in milliseconds. Undefined: the agent's default. */
  readonly policyTimeoutMs?: number;
  readonly labels: Readonly<Record<string, string>>;
  /** What the runtime asks for the pod (capability `bandwidth`). */
  readonly bandwidth?: RuntimeBandwidth;
  /** Resolver settings, which the result repeats. */
  readonly dns?: Readonly<Record<string, unknown>>;
  /** What the plugins before this one in the chain made. CHECK: what ADD answered. */
  readonly prevResult?: PreviousResult;
  /** GC: what the runtime still knows of. */
  readonly validAttachments?: readonly { readonly containerID: string; readonly ifname: string }[];
}

/** Bits a second, and bits; the fields of a WorkloadEndpoint. */
export interface RuntimeBandwidth {
  readonly ingressBandwidth?: number;
  readonly ingressBurst?: number;
  readonly egressBandwidth?: number;
  readonly egressBurst?: number;
}

/** A result as far as plugins of a chain pass it on. */
export interface PreviousResult {
  readonly interfaces?: readonly unknown[] | undefined;
  readonly ips?: readonly unknown[] | undefined;
  readonly routes?: readonly unknown[] | undefined;
  readonly dns?: Readonly<Record<string, unknown>> | undefined;
}

/** Fields of CNI's or the chain's, which the runtime or other plugins act on. */
const others = ['type', 'args', 'capabilities', 'runtimeConfig', 'cniVersions', 'disableCheck', 'disableGC'];

/** Calico's settings of what the agent does here with its own configuration: datastore access and logging. */
const agents =
  /^(datastore_type|etcd_(endpoints|discovery_srv|key_file|cert_file|ca_cert_file)|kubernetes|log_level|log_file_path|log_file_max_(size|age|count)|nodename_file_optional|calico_api_group)$/;

const ours = [
  'cniVersion',
  'name',
  'nodename',
  'mtu',
  'ipam',
  'feature_control',
  'policy',
  'policy_setup_timeout_seconds',
  'dns',
  'prevResult',
  'cni.dev/valid-attachments',
];

const ipamFields = ['type', 'assign_ipv4', 'assign_ipv6', 'ipv4_pools', 'ipv6_pools'];
const hostLocalFields = ['type', 'subnet', 'ranges'];

const flag = z.union([z.boolean(), z.enum(['true', 'false']).transform((text) => text === 'true')], {
  error: 'expected true or false',
});

const features = z.looseObject(
  { ip_addrs_no_ipam: flag.optional(), floating_ips: flag.optional() },
  { error: 'expected an object' },
);

const labelName = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

const labels = z
  .array(
    z.looseObject({
      key: z.string().regex(labelName, 'expected a Kubernetes label name'),
      value: z.string().regex(labelValue, 'expected a Kubernetes label value of at most 63 characters'),
    }),
  )
  .max(256, { error: 'expected at most 256 labels' });

const poolNames = z
  .array(z.string().min(1, { error: 'expected the name or prefix of a pool' }))
  .max(64, { error: 'expected at most 64 pools' });

/** Calico's words for the node's podCIDRs in a configuration of host-local; other ranges are not given out. */
const podCidr = z.enum(['usePodCidr', 'usePodCidrIPv6'], { error: 'expected usePodCidr or usePodCidrIPv6' });

const ipam = z.looseObject({
  type: z.enum(['calico-ipam', 'margay-ipam', 'host-local']),
  subnet: podCidr.optional(),
  ranges: z
    .array(z.array(z.strictObject({ subnet: podCidr })).length(1))
    .max(2)
    .optional(),
  assign_ipv4: flag.optional(),
  assign_ipv6: flag.optional(),
  ipv4_pools: poolNames.optional(),
  ipv6_pools: poolNames.optional(),
});

/** A number that a rule accepts. */
function within(accepts: (value: number) => boolean, range: string) {
  return z.number({ error: `expected ${range}` }).refine(accepts, { error: `expected ${range}` });
}

const bits = within((value) => Number.isInteger(value) && value >= 0, 'a whole number of bits, 0 for none');

const texts = z.array(z.string({ error: 'expected text' }), { error: 'expected a list of texts' });
const dns = z.looseObject({
  nameservers: texts.optional(),
  domain: z.string({ error: 'expected text' }).optional(),
  search: texts.optional(),
  options: texts.optional(),
});

const list = z.array(z.unknown(), { error: 'expected a list' }).optional();
const prevResult = z.looseObject(
  { interfaces: list, ips: list, routes: list, dns: z.looseObject({}).optional() },
  { error: 'expected a result' },
);

const network = z.looseObject({
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/, 'expected a network name of letters, digits, `_.-`'),
  nodename: z.string().min(1).max(253).optional(),
  mtu: within(
    (mtu) => mtu === 0 || (Number.isInteger(mtu) && mtu >= 576 && mtu <= 65535),
    '0 or 576 to 65535',
  ).optional(),
  policy: z.looseObject({ type: z.literal('k8s').optional() }).optional(),
  policy_setup_timeout_seconds: within((seconds) => seconds >= 0 && seconds <= 25, '0 to 25').optional(),
  ipam,
  feature_control: features.optional(),
  dns: dns.optional(),
  prevResult: prevResult.optional(),
  runtimeConfig: z
    .looseObject({
      bandwidth: z
        .looseObject({ ingressRate: bits, ingressBurst: bits, egressRate: bits, egressBurst: bits })
        .partial()
        .nullish(),
    })
    .optional(),
  args: z.looseObject({ cni: z.looseObject({ labels: labels.optional() }).optional() }).optional(),
  'cni.dev/valid-attachments': z
    .array(z.looseObject({ containerID: z.string().min(1), ifname: z.string().min(1) }))
    .optional(),
});

/** Removal needs the name alone: a configuration that has gone bad must not keep a pod from being removed. */
const nameOnly = network.pick({ name: true, 'cni.dev/valid-attachments': true });

/** The JSON object on standard input. @throws CniError with code 6 */
export function parseJson(stdin: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(stdin);
  } catch (cause) {
    throw new CniError(cniCodes.decode, `standard input: ${show(stdin)}: expected JSON`, String(cause), { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new CniError(cniCodes.decode, `standard input: ${show(value)}: expected a JSON object`);
}

/** @throws CniError with code 1 */
export function parseVersion(value: unknown): CniVersion {
  const found = supportedVersions.find((version) => version === value);
  if (found !== undefined) return found;
  throw new CniError(cniCodes.version, `cniVersion: ${show(value)}: expected one of ${supportedVersions.join(', ')}`);
}

/**
 * Checks a network configuration.
 * @param lenient for DEL and GC: unknown and missing fields are no obstacle
 * @throws CniError with code 1 (version), 2 (unknown field) or 7 (wrong value), naming the field and its value
 */
export function parseConfig(value: Record<string, unknown>, lenient: boolean): NetworkConfig {
  const cniVersion = parseVersion(value['cniVersion']);
  if (lenient) {
    const { name, 'cni.dev/valid-attachments': validAttachments } = check(nameOnly, value);
    return { cniVersion, name, poolsOf: { 4: [], 6: [] }, labels: {}, ...(validAttachments && { validAttachments }) };
  }
  refuseUnknown(value, '', (key) => ours.includes(key) || others.includes(key) || agents.test(key), [
    ...ours,
    ...others,
  ]);
  const ipamValue = value['ipam'];
  const hostLocal = isObject(ipamValue) && ipamValue['type'] === 'host-local';
  const known = hostLocal ? hostLocalFields : ipamFields;
  if (isObject(ipamValue)) refuseUnknown(ipamValue, 'ipam.', (key) => known.includes(key), known);
  const [odd] = unknownFeatures(value);
  if (odd) unsupported(`feature_control.${odd[0]}`, odd[1], 'remove it');
  const config = check(network, value);
  const cniArgs = config.args?.cni;
  if (cniArgs?.['ips'] !== undefined) unsupported('args.cni.ips', cniArgs['ips'], 'addresses come from the pools');
  const families = hostLocal ? podCidrFamilies(config.ipam) : familiesOf(config.ipam);
  const { ipv4_pools: four = [], ipv6_pools: six = [] } = config.ipam;
  const seconds = config.policy_setup_timeout_seconds;
  return {
    cniVersion,
    name: config.name,
    poolsOf: { 4: four, 6: six },
    ...(hostLocal && { podCidr: true }),
    ...(config.feature_control?.ip_addrs_no_ipam && { bareAddresses: true }),
    labels: Object.fromEntries((cniArgs?.labels ?? []).map(({ key, value: text }) => [key, text])),
    ...bandwidthOf(config.runtimeConfig?.bandwidth ?? {}),
    ...(config.nodename !== undefined && { nodename: config.nodename }),
    ...(config.mtu !== undefined && config.mtu > 0 && { mtu: config.mtu }),
    ...(families && { families }),
    ...(seconds !== undefined && seconds > 0 && { policyTimeoutMs: seconds * 1000 }),
    ...(config.dns && { dns: config.dns }),
    ...(config.prevResult && { prevResult: config.prevResult }),
  };
}

/** Bursts that runtimes send for a pod that names none: the greatest numbers of 31 and 32 bits. */
const noBurst = new Set([2 ** 31 - 1, 2 ** 32 - 1]);

/** The capability `bandwidth` (CNI conventions) as fields of the endpoint; a rate of 0 is none. */
function bandwidthOf(asked: {
  readonly ingressRate?: number | undefined;
  readonly ingressBurst?: number | undefined;
  readonly egressRate?: number | undefined;
  readonly egressBurst?: number | undefined;
}): Pick<NetworkConfig, 'bandwidth'> {
  const { ingressRate, ingressBurst, egressRate, egressBurst } = asked;
  const bandwidth = {
    ...(ingressRate && { ingressBandwidth: ingressRate }),
    ...(ingressRate && ingressBurst && !noBurst.has(ingressBurst) && { ingressBurst }),
    ...(egressRate && { egressBandwidth: egressRate }),
    ...(egressRate && egressBurst && !noBurst.has(egressBurst) && { egressBurst }),
  };
  return Object.keys(bandwidth).length > 0 ? { bandwidth } : {};
}

/** @throws CniError with code 7 when no range is named */
function podCidrFamilies({ subnet, ranges = [] }: z.output<typeof ipam>): Family[] {
  const named = [...(subnet === undefined ? [] : [subnet]), ...ranges.flat().map((range) => range.subnet)];
  if (named.length === 0)
    throw new CniError(cniCodes.config, 'ipam.subnet: missing: expected usePodCidr, or usePodCidr in ipam.ranges');
  return [...new Set(named.map((each): Family => (each === 'usePodCidr' ? 4 : 6)))];
}

function familiesOf(config: z.output<typeof ipam>): Family[] | undefined {
  const { assign_ipv4: four, assign_ipv6: six } = config;
  if (four === undefined && six === undefined) return undefined;
  const families: Family[] = [...(four === false ? [] : [4 as const]), ...(six === true ? [6 as const] : [])];
  if (families.length > 0) return families;
  throw new CniError(cniCodes.config, 'ipam.assign_ipv4, ipam.assign_ipv6: both false: expected one of them true');
}

/** What of Calico's features is asked for and not here; floating addresses may be said to be off. */
function unknownFeatures({ feature_control: asked }: Readonly<Record<string, unknown>>): [string, unknown][] {
  if (!isObject(asked)) return [];
  return Object.entries(asked).filter(([key, value]) =>
    key === 'floating_ips' ? value !== false && value !== 'false' : key !== 'ip_addrs_no_ipam',
  );
}

/** Fields of a plugin's configuration that the agent would refuse, `ipam.x` for those of its IPAM's. */
export function unknownFields(value: Readonly<Record<string, unknown>>): string[] {
  const known = (key: string) => ours.includes(key) || others.includes(key) || agents.test(key);
  const { ipam: inner } = value;
  const inIpam = isObject(inner) && inner['type'] === 'host-local' ? hostLocalFields : ipamFields;
  return [
    ...Object.keys(value).filter((key) => !known(key)),
    ...(isObject(inner) ? Object.keys(inner).filter((key) => !inIpam.includes(key)) : []).map((key) => `ipam.${key}`),
    ...unknownFeatures(value).map(([key]) => `feature_control.${key}`),
  ];
}

function refuseUnknown(
  value: Record<string, unknown>,
  prefix: string,
  known: (key: string) => boolean,
  suggestions: readonly string[],
): void {
  for (const key of Object.keys(value)) {
    if (known(key)) continue;
    const similar = suggestions.find((name) => flat(name) === flat(key));
    unsupported(prefix + key, value[key], similar ? `did you mean ${show(prefix + similar)}?` : 'remove it');
  }
}

function flat(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
}

function unsupported(field: string, value: unknown, remedy: string): never {
  throw new CniError(cniCodes.unsupportedField, `${field}: ${show(value)}: unsupported field; ${remedy}`);
}

function check<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = firstIssue(result.error, value, '');
  const plain = new InputError(issue.field.replace(/^\./, ''), issue.value, issue.expected);
  throw new CniError(cniCodes.config, plain.message, '', { cause: plain });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
