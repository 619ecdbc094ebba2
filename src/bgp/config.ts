import { createHash } from 'node:crypto';
import { InputError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import {
  type Cidr,
  compareIp,
  type Family,
  familyOf,
  formatIp,
  type Ip,
  isLinkLocal,
  parseCidr,
  parseIp,
  splitCidr,
} from '../model/address.ts';
import type { Node } from '../model/kinds.ts';
import { announcedWith } from './advertisements.ts';
import type { StationConfig } from './bmp/monitor.ts';
import type { FilterRule } from './filters.ts';
import { ignoredFields } from './ignored.ts';
import { type Objects, type ParsedPeer, seconds } from './objects.ts';
import { originations } from './originations.ts';
import type { SecretRef, Secrets } from './secrets.ts';
import { announcerOf, rangesOf } from './services.ts';
import type { NodeAddress, PeerConfig, SpeakerConfig } from './settings.ts';

/** Seconds; Calico's, who leaves BIRD's hold time at 90 and lets peers keep routes for two minutes. */
export const holdSeconds = 90;
export const defaultRestartSeconds = 120;
export const defaultAsn = 64512;
export const defaultPort = 179;

const families: readonly Family[] = [4, 6];

/** What cannot be followed, although each object by itself is valid. */
export interface Problem {
  readonly object: string;
  readonly detail: string;
}

export interface Compiled {
  readonly config: SpeakerConfig;
  readonly problems: readonly Problem[];
}

/** What the process's environment says of the services' addresses. */
export interface ServiceEnvironment {
  /** `CALICO_ADVERTISE_CLUSTER_IPS`: a comma list in place of `serviceClusterIPs`. */
  readonly clusterIPs?: string;
  /** `CALICO_K8S_NODE_REF`: the node's name in Kubernetes. */
  readonly node?: string;
}

/**
 * A node's BGP configuration out of the datastore's objects; undefined while the node itself has no BGP address.
 * @param routerId `CALICO_ROUTER_ID`: an IPv4 address, `hash` (of the node's name), or absent: the IPv4 address
 * @param secrets finds passwords; a session that should have one and has none is left out
 * @throws InputError for a router id that is neither, or a wrong range of cluster addresses in the environment
 */
export function compile(
  objects: Objects,
  nodename: string,
  routerId: string | undefined,
  secrets: Secrets = () => ({ problem: 'there are no secrets' }),
  environment: ServiceEnvironment = {},
): Compiled | undefined {
  const own = objects.nodes.get(nodename);
  const addresses = own ? addressesOf(own) : [];
  if (!own || addresses.length === 0) return undefined;
  const problems: Problem[] = ignoredFields(objects);
  const context: Context = { objects, own, addresses, asn: asnOf(own, objects), problems, secrets };
  const peers = new Map<string, PeerConfig>();
  // Explicit peers come first: they take the place of a mesh session with the same address.
  for (const peer of [...explicitPeers(context), ...meshPeers(context)]) {
    const key = `${peer.address}%${peer.interface ?? ''}`;
    if (!peers.has(key)) peers.set(key, peer);
  }
  const clusterId = attempt(context, `Node(${nodename})`, () => clusterOf(own));
  const config: SpeakerConfig = {
    asn: context.asn,
    ...(clusterId ? { clusterId } : {}),
    identifier: identifierOf(nodename, addresses, routerId),
    listenPort: portOf(objects, nodename),
    ...(bindsToNode(objects) ? { listenAddresses: addresses.map(({ address }) => address) } : {}),
    addresses,
    peers: [...peers.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    ...(stationsOf(objects).length > 0 ? { bmp: stationsOf(objects) } : {}),
    originations: announced(objects, own, environment),
    ...announcedWith(objects, nodename, problems),
  };
  return { config, problems };
}

interface Context {
  readonly objects: Objects;
  readonly own: Node;
  readonly addresses: readonly NodeAddress[];
  readonly asn: number;
  readonly problems: Problem[];
  readonly secrets: Secrets;
}

function stationsOf({ configuration }: Objects): StationConfig[] {
  return (configuration?.spec.bmp ?? []).map(({ address, port, policy }) => ({
    address: parseIp(address),
    port,
    ...(policy ? { policy } : {}),
  }));
}

/** A node's own BGPConfiguration, `node.<name>`, goes before the common one. */
function portOf({ configuration, nodeConfigurations }: Objects, nodename: string): number {
  return nodeConfigurations.get(nodename)?.spec.listenPort ?? configuration?.spec.listenPort ?? defaultPort;
}

/** `bindMode: NodeIP`: only the node's BGP addresses are listened on. */
function bindsToNode({ configuration }: Objects): boolean {
  return configuration?.spec.bindMode === 'NodeIP';
}

/** Blocks, borrowed addresses and what services add. */
function announced(objects: Objects, own: Node, { clusterIPs, node }: ServiceEnvironment): readonly Cidr[] {
  const ours = originations(objects);
  const services = objects.services.originations(rangesOf(objects.configuration, clusterIPs), announcerOf(own, node));
  return services.length === 0 ? ours : [...new Set([...ours, ...services])].sort();
}

function asnOf(node: Node, { configuration }: Objects): number {
  return node.spec.bgp?.asNumber ?? configuration?.spec.asNumber ?? defaultAsn;
}

/** A node's BGP addresses; one without a prefix length is on a subnet of its own. */
function addressesOf({ spec }: Node): NodeAddress[] {
  const texts = [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address].filter((text) => text !== undefined);
  return texts.map((text) => {
    const subnet = parseCidr(text);
    return { address: text.includes('/') ? splitCidr(text).address : parseIp(text), subnet };
  });
}

function addressOf(addresses: readonly NodeAddress[], family: Family): Ip | undefined {
  return addresses.find(({ address }) => familyOf(address) === family)?.address;
}

function identifierOf(nodename: string, addresses: readonly NodeAddress[], routerId: string | undefined): Ip {
  if (routerId && routerId !== 'hash') return parseIp(routerId, 'CALICO_ROUTER_ID');
  const four = addressOf(addresses, 4);
  if (four && routerId !== 'hash') return four;
  const digest = createHash('sha256').update(nodename).digest().subarray(0, 4);
  return formatIp(digest.every((octet) => octet === 0) ? Uint8Array.of(0, 0, 0, 1) : digest);
}

/**
 * A session carries the prefixes of its own family. One over IPv6 carries IPv4 prefixes too where no IPv4 session can:
 * over link-local addresses, and on a node without an IPv4 address; their next hops are IPv6 ones (RFC 8950).
 */
function familiesOver(address: Ip, own: readonly NodeAddress[]): readonly Family[] {
  if (familyOf(address) === 4) return [4];
  return isLinkLocal(address) || addressOf(own, 4) === undefined ? families : [6];
}

/** Sessions between all nodes, one for each family that both have; route reflectors stand outside. */
function* meshPeers(context: Context): Generator<PeerConfig> {
  const { objects, own } = context;
  const enabled = objects.configuration?.spec.nodeToNodeMeshEnabled ?? true;
  if (!enabled || isReflector(own)) return;
  const time = objects.configuration?.spec.nodeMeshMaxRestartTime;
  const restartSeconds = attempt(context, 'BGPConfiguration(default)', () =>
    seconds(time, 'BGPConfiguration(default).spec.nodeMeshMaxRestartTime'),
  );
  const secured = passwordOf(context, objects.configuration?.spec.nodeMeshPassword?.secretKeyRef, 'the mesh');
  if (!secured) return;
  for (const node of objects.nodes.values()) {
    if (node.metadata.name === own.metadata.name || isReflector(node)) continue;
    yield* nodePeers(context, node, 'mesh', {
      ...(restartSeconds === undefined ? {} : { restartSeconds }),
      ...secured,
    });
  }
}

/** The password of a session, if it is to have one; undefined when that cannot be had: then there is no session. */
function passwordOf(
  context: Context,
  ref: SecretRef | undefined,
  what: string,
): Pick<PeerConfig, 'password'> | undefined {
  if (!ref) return {};
  const found = context.secrets(ref);
  if (found instanceof Secret) return { password: found };
  const object =
    what === 'the mesh' ? 'BGPConfiguration(default).spec.nodeMeshPassword' : `BGPPeer(${what}).spec.password`;
  context.problems.push({ object, detail: `${found.problem}: no session without it` });
  return undefined;
}

function isReflector({ spec }: Node): boolean {
  return spec.bgp?.routeReflectorClusterID !== undefined;
}

/**
 * Sessions with another node. The one whose address is numerically higher connects and the lower waits, so that the
 * reconnection after a restart is never raced by a second one; a waiting side dials only after a long silence.
 */
function* nodePeers(context: Context, node: Node, name: string, extra?: Partial<PeerConfig>): Generator<PeerConfig> {
  const { objects, addresses } = context;
  const theirs = addressesOf(node);
  for (const family of families) {
    const ours = addressOf(addresses, family);
    const address = addressOf(theirs, family);
    if (!ours || !address) continue;
    yield {
      ...basics,
      name: `${name}-${node.metadata.name}-ipv${family}`,
      role: name === 'mesh' ? 'mesh' : 'peer',
      address,
      port: portOf(objects, node.metadata.name),
      asn: asnOf(node, objects),
      families: addressOf(theirs, 4) ? familiesOver(address, addresses) : familiesOver(address, []),
      localAddress: ours,
      initiative: compareIp(ours, address) > 0 ? 'dial' : 'wait',
      ...asClient(context, node),
      ...extra,
    };
  }
}

/** To a reflector, whoever is not of its cluster of reflectors is a client; only internal peers go by it. */
function asClient({ own }: Context, peer?: Node): Partial<PeerConfig> {
  const cluster = peer?.spec.bgp?.routeReflectorClusterID;
  const other = cluster === undefined || cluster !== own.spec.bgp?.routeReflectorClusterID;
  return isReflector(own) && other ? { routeReflectorClient: true } : {};
}

/** @throws InputError for one that is no IPv4 address, which CLUSTER_LIST has no room for */
function clusterOf({ spec }: Node): Ip | undefined {
  const text = spec.bgp?.routeReflectorClusterID;
  if (text === undefined) return undefined;
  const clusterId = parseIp(text, 'spec.bgp.routeReflectorClusterID');
  if (familyOf(clusterId) === 4) return clusterId;
  throw new InputError('spec.bgp.routeReflectorClusterID', text, 'an IPv4 address');
}

const basics = {
  holdSeconds,
  restartSeconds: defaultRestartSeconds,
  acceptDefault: false,
  nextHopMode: 'auto',
} as const satisfies Partial<PeerConfig>;

/** Sessions that BGPPeer objects ask for. */
function* explicitPeers(context: Context): Generator<PeerConfig> {
  for (const peer of context.objects.peers.values()) {
    const sessions = [...sessionsOf(context, peer)];
    const secured = sessions.length > 0 ? passwordOf(context, peer.password, peer.name) : undefined;
    if (secured) for (const session of sessions) yield { ...session, ...secured };
  }
}

/** This node's sessions by one object. Both ends of a peering between nodes follow from it. */
function* sessionsOf(context: Context, peer: ParsedPeer): Generator<PeerConfig> {
  const { objects, own } = context;
  const mine = selects(peer, own);
  if (peer.target.to === 'address') {
    if (mine) yield* routerPeer(context, peer, peer.target);
    return;
  }
  const { selector } = peer.target;
  const isTarget = selector.matches(own.metadata.labels ?? {});
  for (const node of objects.nodes.values()) {
    if (node.metadata.name === own.metadata.name) continue;
    const forward = mine && selector.matches(node.metadata.labels ?? {});
    const reverse = peer.reverse && isTarget && selects(peer, node);
    if (forward || reverse) yield* nodePeers(context, node, peer.name, nodeOptionsOf(context, peer, forward, reverse));
  }
}

/** `node` or `nodeSelector` narrow a peer to nodes; neither means all. */
function selects({ node, nodeSelector }: ParsedPeer, candidate: Node): boolean {
  if (node !== undefined) return node === candidate.metadata.name;
  return nodeSelector?.matches(candidate.metadata.labels ?? {}) ?? true;
}

function* routerPeer(
  context: Context,
  peer: ParsedPeer,
  target: Extract<ParsedPeer['target'], { to: 'address' }>,
): Generator<PeerConfig> {
  const { addresses, problems } = context;
  const { address, port, asn, interface: device } = target;
  const family = familyOf(address);
  const localAddress = addressOf(addresses, family);
  if (localAddress === address) return;
  if (!localAddress && device === undefined) {
    problems.push({ object: `BGPPeer(${peer.name})`, detail: `this node has no IPv${family} address for ${address}` });
    return;
  }
  yield {
    ...basics,
    name: peer.name,
    role: 'peer',
    address,
    port,
    asn,
    families: familiesOver(address, addresses),
    ...(device === undefined ? {} : { interface: device }),
    ...(peer.bound && localAddress && device === undefined ? { localAddress } : {}),
    initiative: 'dial',
    ...asClient(context),
    ...optionsOf(context, peer),
  };
}

/** A local AS number is of the side that the object selects; the other side sees it as its peer's. */
function nodeOptionsOf(context: Context, peer: ParsedPeer, forward: boolean, reverse: boolean): Partial<PeerConfig> {
  const { localAsn, ...options } = optionsOf(context, peer);
  if (localAsn === undefined) return options;
  return { ...options, ...(forward ? { localAsn } : {}), ...(reverse ? { asn: localAsn } : {}) };
}

function optionsOf(context: Context, peer: ParsedPeer): Partial<PeerConfig> {
  const { keepaliveSeconds, restartSeconds, acceptDefault, bfd } = peer;
  return {
    acceptDefault,
    nextHopMode: peer.nextHopMode,
    ...(peer.localAsn === undefined ? {} : { localAsn: peer.localAsn }),
    ...(peer.allowedLocalAs === undefined ? {} : { allowedLocalAs: peer.allowedLocalAs }),
    ...(peer.removePrivateAs ? { removePrivateAs: true } : {}),
    ...(peer.maxPrefixes ? { maxPrefixes: peer.maxPrefixes } : {}),
    ...(peer.ttlSecurity === undefined ? {} : { ttlSecurity: peer.ttlSecurity }),
    ...(keepaliveSeconds === undefined ? {} : { keepaliveSeconds }),
    ...(restartSeconds === undefined ? {} : { restartSeconds }),
    ...(bfd ? { bfd } : {}),
    ...(peer.longLivedSeconds === undefined ? {} : { longLivedSeconds: peer.longLivedSeconds }),
    ...rulesOf(context, peer),
  };
}

const nothing: FilterRule = { action: 'reject', operations: [] };

/** All rules of a peer's filters, one after the other; a filter that is not there lets nothing through. */
function rulesOf({ objects, problems }: Context, { name, filters }: ParsedPeer): Partial<PeerConfig> {
  if (filters.length === 0) return {};
  const rules = {
    import: { 4: [] as FilterRule[], 6: [] as FilterRule[] },
    export: { 4: [] as FilterRule[], 6: [] as FilterRule[] },
  };
  for (const filter of filters) {
    const found = objects.filters.get(filter);
    if (!found) {
      const detail = `there is no usable BGPFilter(${filter}): no route is taken from or told to the peer`;
      problems.push({ object: `BGPPeer(${name}).spec.filters`, detail });
    }
    for (const way of ['import', 'export'] as const)
      for (const family of families) rules[way][family].push(...(found ? found[way][family] : [nothing]));
  }
  return { importRules: rules.import, exportRules: rules.export };
}

/** A value out of an object's text; one that is not understood is a problem, and absent. */
function attempt<T>({ problems }: Context, object: string, read: () => T): T | undefined {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    problems.push({ object, detail: thrown.message });
    return undefined;
  }
}
