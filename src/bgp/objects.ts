import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Event, Key, Type, Value } from '../datastore/store.ts';
import { keyText } from '../datastore/store.ts';
import type { Cidr, Ip } from '../model/address.ts';
import { hopParts, parseHop } from '../model/feed.ts';
import type { Block } from '../model/ipam.ts';
import type { BgpConfiguration, BgpFilter, BgpPeer, EndpointSlice, IpPool, Node, Service } from '../model/kinds.ts';
import { parseSelector, type Selector } from '../model/selector.ts';
import type { BfdSettings } from './bfd/settings.ts';
import type { NextHopMode } from './exporting.ts';
import { type ParsedFilter, parseFilter } from './filter-resource.ts';
import { ownPartOf } from './originations.ts';
import type { PrefixLimit } from './prefix-limit.ts';
import type { SecretRef } from './secrets.ts';
import { ServiceIndex } from './service-index.ts';

/** The datastore objects that a node's BGP configuration is made of. */
export const watched: readonly Type[] = [
  'BGPConfiguration',
  'BGPFilter',
  'BGPPeer',
  'Node',
  'IPPool',
  'Block',
  'Service',
  'EndpointSlice',
];

/** A router as `peerIP` names it; a link-local address is on the device `interface`. */
export interface Endpoint {
  readonly address: Ip;
  readonly port: number;
  readonly interface?: string;
}

/** A BGPPeer with its texts understood. */
export interface ParsedPeer {
  readonly name: string;
  readonly node?: string;
  readonly nodeSelector?: Selector;
  /** One router, or the nodes that a selector picks. */
  readonly target:
    | ({ readonly to: 'address'; readonly asn: number } & Endpoint)
    | { readonly to: 'nodes'; readonly selector: Selector };
  readonly keepaliveSeconds?: number;
  readonly restartSeconds?: number;
  readonly password?: SecretRef;
  readonly ttlSecurity?: number;
  readonly longLivedSeconds?: number;
  readonly bfd?: BfdSettings;
  readonly acceptDefault: boolean;
  readonly localAsn?: number;
  readonly allowedLocalAs?: number;
  readonly nextHopMode: NextHopMode;
  /** Bind to the node's own address. */
  readonly bound: boolean;
  readonly reverse: boolean;
  readonly removePrivateAs: boolean;
  readonly maxPrefixes?: PrefixLimit;
  /** Names of BGPFilters, in order. */
  readonly filters: readonly string[];
  /** Asks for a static route to the peer; felix makes none. */
  readonly reachableBy?: string;
}

/** Annotation of a BGPPeer whose routers may announce a default route. */
export const acceptDefaultAnnotation = 'bgp.margay.io/accept-default-route';

export interface Objects {
  /** `default`. */
  readonly configuration: BgpConfiguration | undefined;
  /** `node.<name>`, by the node's name: what one node has otherwise. */
  readonly nodeConfigurations: ReadonlyMap<string, BgpConfiguration>;
  readonly peers: ReadonlyMap<string, ParsedPeer>;
  readonly filters: ReadonlyMap<string, ParsedFilter>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly pools: ReadonlyMap<string, IpPool>;
  /** What the node announces of each block of which it announces something. */
  readonly blocks: ReadonlyMap<Cidr, readonly Cidr[]>;
  readonly services: Pick<ServiceIndex, 'originations'>;
}

const nodePrefix = 'node.';

/** Follows the datastore. An object that cannot be understood is logged, and its last good version stays. */
export class ObjectStore implements Objects {
  configuration: BgpConfiguration | undefined;
  readonly nodeConfigurations = new Map<string, BgpConfiguration>();
  readonly peers = new Map<string, ParsedPeer>();
  readonly filters = new Map<string, ParsedFilter>();
  readonly nodes = new Map<string, Node>();
  readonly pools = new Map<string, IpPool>();
  readonly blocks = new Map<Cidr, readonly Cidr[]>();
  readonly services = new ServiceIndex();

  /** @param nodename whose configuration it is for */
  constructor(
    private readonly nodename: string,
    private readonly log: Log,
  ) {}

  /**
   * Whether the configuration may be another now; most changes of services and endpoints concern other nodes, and each
   * pod that starts or stops changes a block.
   */
  apply(event: Event): boolean {
    switch (event.op) {
      case 'set':
        return this.#set(event.entry.key, event.entry.value);
      case 'delete':
        return this.#delete(event.key);
      case 'invalid':
        this.#refuse(event.entry.key, event.entry.error);
        return false;
    }
  }

  #set(key: Key, value: Value<Type>): boolean {
    try {
      return this.#take(key, value);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      this.#refuse(key, thrown);
      return false;
    }
  }

  /** @throws InputError */
  #take(key: Key, value: Value<Type>): boolean {
    switch (key.type) {
      case 'Service':
        return this.services.setService(value as Service);
      case 'EndpointSlice':
        return this.services.setSlice(value as EndpointSlice);
      case 'BGPConfiguration':
        this.#configure(key.name, value as BgpConfiguration);
        break;
      case 'BGPFilter':
        this.filters.set(key.name, parseFilter(value as BgpFilter));
        break;
      case 'BGPPeer':
        this.peers.set(key.name, parsePeer(value as BgpPeer));
        break;
      case 'Node':
        this.nodes.set(key.name, value as Node);
        break;
      case 'IPPool':
        this.pools.set(key.name, value as IpPool);
        break;
      case 'Block':
        return this.#setBlock(key.cidr, ownPartOf(value as Block, this.nodename));
      default:
        throw new Error(`${key.type} is not watched`);
    }
    return true;
  }

  #setBlock(block: Cidr, own: readonly Cidr[]): boolean {
    const before = this.blocks.get(block) ?? [];
    if (own.length > 0) this.blocks.set(block, own);
    else this.blocks.delete(block);
    return own.length !== before.length || own.some((cidr, at) => cidr !== before[at]);
  }

  #configure(name: string, value: BgpConfiguration | undefined): void {
    if (name === 'default') this.configuration = value;
    else if (!name.startsWith(nodePrefix)) return;
    else if (value) this.nodeConfigurations.set(name.slice(nodePrefix.length), value);
    else this.nodeConfigurations.delete(name.slice(nodePrefix.length));
  }

  #delete(key: Key): boolean {
    switch (key.type) {
      case 'Service':
        return this.services.deleteService(key.namespace, key.name);
      case 'EndpointSlice':
        return this.services.deleteSlice(key.namespace, key.name);
      case 'BGPConfiguration':
        this.#configure(key.name, undefined);
        break;
      case 'BGPFilter':
        this.filters.delete(key.name);
        break;
      case 'BGPPeer':
        this.peers.delete(key.name);
        break;
      case 'Node':
        this.nodes.delete(key.name);
        break;
      case 'IPPool':
        this.pools.delete(key.name);
        break;
      case 'Block':
        return this.#setBlock(key.cidr, []);
      default:
        throw new Error(`${key.type} is not watched`);
    }
    return true;
  }

  #refuse(key: Key, error: Error): void {
    this.log.warn(
      { object: keyText(key), reason: explain(error) },
      'object not understood; its last good version stays',
    );
  }
}

/** @throws InputError naming the field of the BGPPeer */
export function parsePeer(peer: BgpPeer): ParsedPeer {
  const { spec, metadata } = peer;
  const where = `BGPPeer(${metadata.name}).spec`;
  if (spec.node !== undefined && spec.nodeSelector !== undefined) {
    throw new InputError(`${where}.nodeSelector`, spec.nodeSelector, 'none beside node');
  }
  const longLivedSeconds = seconds(spec.longLivedStaleTime, `${where}.longLivedStaleTime`);
  const restartSeconds = seconds(spec.maxRestartTime, `${where}.maxRestartTime`);
  const keepaliveSeconds = seconds(spec.keepaliveTime, `${where}.keepaliveTime`);
  return {
    name: metadata.name,
    ...(spec.node ? { node: spec.node } : {}),
    ...(spec.nodeSelector ? { nodeSelector: parseSelector(spec.nodeSelector, `${where}.nodeSelector`) } : {}),
    target: targetOf(peer, where),
    ...(keepaliveSeconds === undefined ? {} : { keepaliveSeconds }),
    ...(restartSeconds === undefined ? {} : { restartSeconds }),
    ...(spec.password ? { password: spec.password.secretKeyRef } : {}),
    ...(spec.ttlSecurity ? { ttlSecurity: spec.ttlSecurity } : {}),
    ...(longLivedSeconds === undefined ? {} : { longLivedSeconds }),
    ...(spec.bfd ? { bfd: bfdOf(spec.bfd) } : {}),
    acceptDefault: metadata.annotations?.[acceptDefaultAnnotation] === 'true',
    ...(spec.localASNumber === undefined ? {} : { localAsn: spec.localASNumber }),
    ...(spec.numAllowedLocalASNumbers === undefined ? {} : { allowedLocalAs: spec.numAllowedLocalASNumbers }),
    nextHopMode: nextHopModeOf(peer, where),
    bound: spec.sourceAddress === 'UseNodeIP',
    reverse: spec.reversePeering === 'Auto',
    removePrivateAs: spec.removePrivateAS,
    ...(spec.maxPrefixes ? { maxPrefixes: prefixLimitOf(spec.maxPrefixes, `${where}.maxPrefixes`) } : {}),
    filters: spec.filters,
    ...(typeof spec['reachableBy'] === 'string' ? { reachableBy: spec['reachableBy'] } : {}),
  };
}

function prefixLimitOf(spec: NonNullable<BgpPeer['spec']['maxPrefixes']>, where: string): PrefixLimit {
  const { limit, warnPercent, warnOnly } = spec;
  const restartSeconds = seconds(spec.restartTime, `${where}.restartTime`);
  return {
    limit,
    warnPercent,
    ...(warnOnly ? { warnOnly } : {}),
    ...(restartSeconds === undefined ? {} : { restartSeconds }),
  };
}

function nextHopModeOf({ spec }: BgpPeer, where: string): NextHopMode {
  const { nextHopMode, keepOriginalNextHop = false } = spec;
  if (nextHopMode && keepOriginalNextHop)
    throw new InputError(`${where}.keepOriginalNextHop`, true, 'absent beside nextHopMode');
  if (keepOriginalNextHop) return 'keep';
  return nextHopMode === 'Self' ? 'self' : nextHopMode === 'Keep' ? 'keep' : 'auto';
}

function bfdOf({ minTxMs, minRxMs, multiplier, multihop }: NonNullable<BgpPeer['spec']['bfd']>): BfdSettings {
  return { minTxMs, minRxMs, multiplier, multihop };
}

function targetOf({ spec }: BgpPeer, where: string): ParsedPeer['target'] {
  if (spec['localWorkloadSelector']) {
    const expected = 'none: peering with pods of the node is not offered';
    throw new InputError(`${where}.localWorkloadSelector`, spec['localWorkloadSelector'], expected);
  }
  if (spec.peerSelector) {
    if (spec.peerIP) throw new InputError(`${where}.peerSelector`, spec.peerSelector, 'none beside peerIP');
    return { to: 'nodes', selector: parseSelector(spec.peerSelector, `${where}.peerSelector`) };
  }
  if (!spec.peerIP) throw new InputError(`${where}.peerIP`, spec.peerIP, 'an address, or a peerSelector');
  if (spec.asNumber === undefined) throw new InputError(`${where}.asNumber`, spec.asNumber, 'the AS number of peerIP');
  return { to: 'address', ...parseEndpoint(spec.peerIP, `${where}.peerIP`), asn: spec.asNumber };
}

/** `10.0.0.1`, `10.0.0.1:1179`, `fd00::1`, `[fd00::1]:1179`, `fe80::1%eth0` or `[fe80::1%eth0]:1179`. @throws InputError */
export function parseEndpoint(text: string, field: string): Endpoint {
  const match = /^\[(?<six>[^\]]+)\](?::(?<sixPort>\d+))?$|^(?<four>[^:]+):(?<fourPort>\d+)$/.exec(text);
  const address = match?.groups?.['six'] ?? match?.groups?.['four'] ?? text;
  const port = Number(match?.groups?.['sixPort'] ?? match?.groups?.['fourPort'] ?? 179);
  if (!(port >= 1 && port <= 65535)) throw new InputError(field, text, 'a port from 1 to 65535');
  const { gateway, device } = hopParts(parseHop(address, field));
  return { address: gateway, port, ...(device === undefined ? {} : { interface: device }) };
}

const unitSeconds: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 0.001 };

/** A duration such as `90s` or `1m30s`, in whole seconds. @throws InputError */
export function seconds(text: string | undefined, field: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text)) throw new InputError(field, text, 'a duration such as 120s or 2m');
  let sum = 0;
  for (const [, amount, unit = 's'] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)) {
    sum += Number(amount) * (unitSeconds[unit] ?? 1);
  }
  return Math.round(sum);
}
