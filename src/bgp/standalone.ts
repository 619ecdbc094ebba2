import { explain, InputError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import { maxMd5Key } from '../kernel/socket.ts';
import {
  type Cidr,
  cidrParts,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  isLinkLocal,
  parseCidr,
} from '../model/address.ts';
import { type ParsedFilter, parseFilter } from './filter-resource.ts';
import type { FilterRule } from './filters.ts';
import type { MetricsSettings } from './metrics-settings.ts';
import type { PrefixLimit } from './prefix-limit.ts';
import type { NodeAddress, OwnAttributes, PeerConfig, RangeConfig, SpeakerConfig } from './settings.ts';
import { type NeighborOptions, type RangeOptions, type StandaloneFile, standaloneSchema } from './standalone-schema.ts';

/** What a speaker without a datastore is told by its file. */
export interface StandaloneSetup {
  readonly config: SpeakerConfig;
  /** Paths of the sockets to serve. */
  readonly control?: string;
  readonly routes?: string;
  readonly limits?: StandaloneFile['limits'];
  readonly metrics?: MetricsSettings;
  readonly trackNextHops?: boolean;
}

/** Something in the file that cannot be followed. */
export interface StandaloneProblem {
  /** Where: keys and indexes from the top. A key that should not be there is the last. */
  readonly path: readonly PropertyKey[];
  readonly value: unknown;
  readonly expected: string;
}

type Report = (path: readonly PropertyKey[], value: unknown, expected: string) => void;

const families: readonly Family[] = [4, 6];
const unspecified = ['0.0.0.0', '::'];

/**
 * The speaker's configuration out of a file's content, or everything that is wrong with it.
 * @param readFile reads a password file @throws what it throws that is no system error
 */
export function compileStandalone(
  value: unknown,
  readFile: (path: string) => string,
): { readonly setup: StandaloneSetup } | { readonly problems: readonly StandaloneProblem[] } {
  const result = standaloneSchema.safeParse(value);
  if (!result.success) return { problems: result.error.issues.flatMap((issue) => problemsOf(issue, value)) };
  const problems: StandaloneProblem[] = [];
  const report: Report = (path, wrong, expected) => void problems.push({ path, value: wrong, expected });
  const compiler = new Compiler(result.data, readFile, report);
  const setup = compiler.setup();
  return problems.length > 0 ? { problems } : { setup };
}

/** A part of what zod tells of an issue. */
interface Issue {
  readonly code: string;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
}

function problemsOf(issue: Issue, input: unknown): StandaloneProblem[] {
  if (issue.code === 'unrecognized_keys') {
    const paths = (issue.keys ?? []).map((key) => [...issue.path, key]);
    return paths.map((path) => ({ path, value: found(path, input).value, expected: 'no such field' }));
  }
  const expected = issue.message.replace(/^([^:]*: )?expected /i, '');
  const { path, value } = found(issue.path, input);
  return [{ path, value: shown(path, value), expected }];
}

/** What is at a path. One that leads into a text is that of the text, a short form of an object. */
function found(path: readonly PropertyKey[], input: unknown): { path: readonly PropertyKey[]; value: unknown } {
  let value = input;
  for (const [at, step] of path.entries()) {
    if (typeof value === 'string') return { path: path.slice(0, at), value };
    value = typeof value === 'object' && value !== null ? Reflect.get(value, step) : undefined;
  }
  return { path, value };
}

/** A password stays out of messages, also a wrong one. */
function shown(path: readonly PropertyKey[], value: unknown): unknown {
  return path.at(-1) === 'password' && typeof value === 'string' ? '(hidden)' : value;
}

class Compiler {
  readonly #addresses: readonly NodeAddress[];
  /** Also those that no neighbour has yet; undefined where one cannot be followed. */
  readonly #filters: ReadonlyMap<string, ParsedFilter | undefined>;

  constructor(
    private readonly file: StandaloneFile,
    private readonly readFile: (path: string) => string,
    private readonly report: Report,
  ) {
    this.#addresses = addressesOf(file);
    this.#filters = new Map(Object.entries(file.filters).map(([name, spec]) => [name, this.#filter(name, spec)]));
  }

  setup(): StandaloneSetup {
    const { file } = this;
    const config: SpeakerConfig = {
      asn: file.asn,
      identifier: file.routerId,
      ...(file.clusterId ? { clusterId: file.clusterId } : {}),
      ...(file.bmp ? { bmp: file.bmp } : {}),
      listenPort: file.listen.port,
      ...(file.listen.addresses ? { listenAddresses: file.listen.addresses } : {}),
      addresses: this.#addresses,
      peers: file.neighbors.map((neighbor, i) => this.#neighbor(neighbor, ['neighbors', i])),
      ranges: file.ranges.map((range, i) => this.#range(range, ['ranges', i])),
      ...originationsOf(file),
    };
    this.#checkNames(config);
    return {
      config,
      ...(file.control ? { control: file.control } : {}),
      ...(file.routes ? { routes: file.routes } : {}),
      limits: file.limits,
      ...(file.trackNextHops ? { trackNextHops: true } : {}),
      ...(file.metrics ? { metrics: file.metrics } : {}),
    };
  }

  #neighbor(neighbor: NeighborOptions, path: readonly PropertyKey[]): PeerConfig {
    const { address, zone } = neighbor.address;
    const device = neighbor.interface ?? zone;
    if (zone !== undefined && device !== zone)
      this.report([...path, 'interface'], device, `${zone}, as the address has it`);
    if (zone !== undefined && !isLinkLocal(address))
      this.report([...path, 'address'], `${address}%${zone}`, 'a device only after a link-local address');
    if (this.#addresses.some((own) => own.address === address))
      this.report([...path, 'address'], address, 'an address of another host');
    if (isLinkLocal(address) && device === undefined)
      this.report([...path, 'address'], address, `the device too, as in ${address}%eth0`);
    return {
      ...this.#options(neighbor, address, path),
      name: neighbor.name ?? (zone ? `${address}%${zone}` : address),
      address,
      ...(device ? { interface: device } : {}),
      port: neighbor.port,
      initiative: neighbor.passive ? 'never' : 'dial',
    };
  }

  #range(range: RangeOptions, path: readonly PropertyKey[]): RangeConfig {
    const { prefix, limit, name = prefix } = range;
    return { name, prefix, limit, peer: this.#options(range, cidrParts(prefix).address, path) };
  }

  /** @param remote the peer, or the first address of its range */
  #options(options: NeighborOptions | RangeOptions, remote: Ip, path: readonly PropertyKey[]): RangeConfig['peer'] {
    const family = familyOf(remote);
    const { asn, localAddress, interface: device, ttlSecurity, keepaliveSeconds, sendHoldSeconds } = options;
    const spoken = options.families ? families.filter((f) => options.families?.includes(`ipv${f}`)) : [family];
    for (const each of spoken) {
      const extended = each === 4 && family === 6 && options.extendedNextHop !== false;
      // Our end of a link-local session is an IPv6 next hop.
      if (isLinkLocal(remote) && (each === 6 || extended)) continue;
      this.#checkOwn(each, extended ? families : [each], options.families ? [...path, 'families'] : path);
    }
    if (localAddress && familyOf(localAddress) !== family)
      this.report([...path, 'localAddress'], localAddress, `an IPv${family} address`);
    if (options.routeReflectorClient && asn !== this.file.asn)
      this.report([...path, 'routeReflectorClient'], true, `false: AS ${asn} is not our own`);
    const password = this.#password(options, path);
    return {
      role: 'peer',
      asn,
      families: spoken,
      ...(localAddress ? { localAddress } : {}),
      ...(device ? { interface: device } : {}),
      ...(password ? { password } : {}),
      ...(ttlSecurity === undefined ? {} : { ttlSecurity }),
      holdSeconds: options.holdSeconds,
      ...(keepaliveSeconds === undefined ? {} : { keepaliveSeconds }),
      ...(sendHoldSeconds === undefined ? {} : { sendHoldSeconds }),
      restartSeconds: options.restartSeconds,
      acceptDefault: options.acceptDefault,
      nextHopMode: options.nextHopMode,
      ...(options.extendedNextHop === undefined ? {} : { extendedNextHop: options.extendedNextHop }),
      ...(options.addPath ? { addPath: pathsOf(options.addPath) } : {}),
      ...(options.routeReflectorClient ? { routeReflectorClient: true } : {}),
      ...policyOf(options),
      ...this.#rules(options.filters, [...path, 'filters']),
    };
  }

  /** @param carriers families of the next hops that the family's prefixes may have in the session */
  #checkOwn(family: Family, carriers: readonly Family[], path: readonly PropertyKey[]): void {
    if (this.#addresses.some(({ address }) => carriers.includes(familyOf(address)))) return;
    this.report(path, `ipv${family}`, `an IPv${family} address of this host in addresses, as the next hop`);
  }

  #password({ password, passwordFile }: NeighborOptions | RangeOptions, path: readonly PropertyKey[]) {
    if (password !== undefined && passwordFile !== undefined)
      this.report([...path, 'passwordFile'], passwordFile, 'none beside password');
    if (passwordFile === undefined) return password === undefined ? undefined : new Secret(password);
    try {
      const text = this.readFile(passwordFile).replace(/\r?\n$/, '');
      const octets = Buffer.byteLength(text);
      if (octets >= 1 && octets <= maxMd5Key) return new Secret(text);
      this.report([...path, 'passwordFile'], passwordFile, `1 to ${maxMd5Key} octets in it, not ${octets}`);
    } catch (thrown) {
      if (!(thrown instanceof Error && 'syscall' in thrown)) throw thrown;
      this.report([...path, 'passwordFile'], passwordFile, `a readable file (${explain(thrown)})`);
    }
    return undefined;
  }

  /** The rules of several filters, one after the other. */
  #rules(names: readonly string[], path: readonly PropertyKey[]): Pick<PeerConfig, 'importRules' | 'exportRules'> {
    if (names.length === 0) return {};
    const rules = { import: emptyRules(), export: emptyRules() };
    for (const [i, name] of names.entries()) {
      if (!this.#filters.has(name)) this.report([...path, i], name, 'the name of one of the filters');
      const filter = this.#filters.get(name);
      for (const way of ['import', 'export'] as const)
        for (const family of families) rules[way][family].push(...(filter?.[way][family] ?? []));
    }
    return { importRules: rules.import, exportRules: rules.export };
  }

  #filter(name: string, spec: StandaloneFile['filters'][string]): ParsedFilter | undefined {
    try {
      const apiVersion = 'projectcalico.org/v3';
      return parseFilter({ kind: 'BGPFilter', apiVersion, metadata: { name }, spec });
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      const rest = thrown.field.slice(`BGPFilter(${name}).spec.`.length);
      const steps = [...rest.matchAll(/[^.[\]]+/g)].map(([step]) => (/^\d+$/.test(step) ? Number(step) : step));
      this.report(['filters', name, ...steps], thrown.value, thrown.expected);
      return undefined;
    }
  }

  #checkNames({ peers, ranges = [] }: SpeakerConfig): void {
    const names = new Set<string>();
    const remotes = new Set<string>();
    const taken = (seen: Set<string>, text: string) => seen.size === seen.add(text).size;
    for (const [i, peer] of peers.entries()) {
      if (taken(names, peer.name)) this.report(['neighbors', i, 'name'], peer.name, 'a name of its own');
      const remote = isLinkLocal(peer.address) ? `${peer.address}%${peer.interface}` : peer.address;
      if (taken(remotes, remote))
        this.report(['neighbors', i, 'address'], remote, 'only one neighbor with this address');
    }
    for (const [i, { name, prefix }] of ranges.entries()) {
      if (taken(names, name)) this.report(['ranges', i, 'name'], name, 'a name of its own');
      if (taken(remotes, prefix)) this.report(['ranges', i, 'prefix'], prefix, 'only one range with this prefix');
      for (const [j, peer] of peers.entries())
        if (peer.name.startsWith(`${name}-`))
          this.report(['neighbors', j, 'name'], peer.name, `another name: those of range ${name} begin so`);
    }
  }
}

function originationsOf({ originate }: StandaloneFile): Pick<SpeakerConfig, 'originations' | 'originationAttributes'> {
  const attributes: Record<Cidr, OwnAttributes> = {};
  for (const { prefix, ...own } of originate) {
    const carried = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
    if (Object.keys(carried).length > 0) attributes[prefix] = carried;
  }
  return {
    originations: [...new Set(originate.map(({ prefix }) => prefix))].sort(),
    ...(Object.keys(attributes).length > 0 ? { originationAttributes: attributes } : {}),
  };
}

function pathsOf({ receive, send }: NonNullable<NeighborOptions['addPath']>): NonNullable<PeerConfig['addPath']> {
  return { receive, ...(send === undefined ? {} : { send }) };
}

/** Options that pass as they stand, those that say nothing left out. */
function policyOf(options: NeighborOptions | RangeOptions) {
  const { localAsn, allowedLocalAs, removePrivateAs, maxPrefixes, bfd, advertisementIntervalSeconds } = options;
  const { minTxMs = 0, minRxMs = 0, multiplier = 0, multihop = false } = bfd ?? {};
  return {
    ...(localAsn === undefined ? {} : { localAsn }),
    ...(allowedLocalAs === undefined ? {} : { allowedLocalAs }),
    ...(removePrivateAs ? { removePrivateAs } : {}),
    ...(advertisementIntervalSeconds > 0 ? { advertisementIntervalSeconds } : {}),
    ...(maxPrefixes ? { maxPrefixes: limitOf(maxPrefixes) } : {}),
    ...(bfd ? { bfd: { minTxMs, minRxMs, multiplier, multihop } } : {}),
  } satisfies Partial<PeerConfig>;
}

function limitOf({
  limit,
  warnPercent,
  warnOnly,
  restartSeconds,
}: NonNullable<NeighborOptions['maxPrefixes']>): PrefixLimit {
  const restart = restartSeconds === undefined ? {} : { restartSeconds };
  return { limit, warnPercent, ...(warnOnly ? { warnOnly } : {}), ...restart };
}

function emptyRules(): Record<Family, FilterRule[]> {
  return { 4: [], 6: [] };
}

/** Those told; else what the sessions and the listening sockets are bound to, and the router id. */
function addressesOf({ addresses, listen, neighbors, ranges, routerId }: StandaloneFile): NodeAddress[] {
  const found = new Map<Ip, NodeAddress>(addresses.map((own) => [own.address, own]));
  const bound = [...(listen.addresses ?? []), ...[...neighbors, ...ranges].map(({ localAddress }) => localAddress)];
  for (const address of bound) {
    if (!address || found.has(address) || unspecified.includes(address) || isLinkLocal(address)) continue;
    found.set(address, { address, subnet: hostCidr(address) });
  }
  if (![...found.keys()].some((address) => familyOf(address) === 4))
    found.set(routerId, { address: routerId, subnet: parseCidr(routerId) });
  return [...found.values()];
}
