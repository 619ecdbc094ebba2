import { type Event, type Key, keyText } from '../datastore/store.ts';
import { type Cidr, contains, familyOf, hostCidr, type Ip, parseCidr, parseIp, splitCidr } from '../model/address.ts';
import { everyInterface } from '../model/host-endpoint.ts';
import type { FelixConfiguration, HostEndpoint, IpPool, Node } from '../model/kinds.ts';
import type { Packet } from './evaluate.ts';
import type { Failsafes } from './host.ts';
import { nodeOf } from './node.ts';
import { defaultFailsafe, type Failsafe } from './render/failsafe.ts';

/** A host endpoint as stored. */
export interface StoredHost {
  /** `keyText` of it. */
  readonly key: string;
  readonly event: Event;
  readonly value: HostEndpoint;
}

type Address = Pick<Packet, 'source' | 'destination'>;

/**
 * What the stored objects say of nodes and their host endpoints: which device a node uses is told by the expected addresses
 * of its host endpoints, or by there being only one that it can be.
 */
export class HostFacts {
  readonly #hosts: ReadonlyMap<string, readonly StoredHost[]>;
  readonly #nodes: ReadonlyMap<string, Node>;
  readonly #pools: readonly { readonly cidr: Cidr; readonly spec: IpPool['spec'] }[];
  readonly #configurations: ReadonlyMap<string, FelixConfiguration['spec']>;

  constructor(cluster: readonly Event[]) {
    const hosts = valuesOf<HostEndpoint>(cluster, 'HostEndpoint');
    hosts.sort((a, b) => (a.value.metadata.name < b.value.metadata.name ? -1 : 1));
    this.#hosts = Map.groupBy(hosts, ({ value }) => value.spec.node);
    this.#nodes = new Map(valuesOf<Node>(cluster, 'Node').map(({ value }) => [value.metadata.name, value]));
    this.#pools = valuesOf<IpPool>(cluster, 'IPPool').map(({ value: { spec } }) => ({
      cidr: parseCidr(spec.cidr),
      spec,
    }));
    const configurations = valuesOf<FelixConfiguration>(cluster, 'FelixConfiguration');
    this.#configurations = new Map(configurations.map(({ value: { metadata, spec } }) => [metadata.name, spec]));
  }

  /** The nodes that have host endpoints. */
  nodes(): string[] {
    return [...this.#hosts.keys()];
  }

  hostsOf(node: string): readonly StoredHost[] {
    return this.#hosts.get(node) ?? [];
  }

  /** The host endpoint at the device by which a node is reached; text when several can be meant. */
  at(node: string, { source, destination }: Address, tunnelled: boolean): StoredHost | string | undefined {
    const own = this.hostsOf(node);
    const all = own.find(({ value }) => value.spec.interfaceName === everyInterface);
    if (tunnelled) return all;
    const named = own.filter(({ value }) => value.spec.interfaceName !== everyInterface);
    const expecting = (addresses: readonly Ip[]) =>
      named.find(({ value }) => value.spec.expectedIPs.some((ip) => addresses.includes(parseIp(ip))));
    const expected = expecting([source, destination]) ?? expecting(this.#addressesOf(node));
    if (expected) return expected;
    const known = named.filter(({ value }) => value.spec.expectedIPs.length === 0);
    if (known.length > 0 && known.length + (all ? 1 : 0) > 1)
      return `node ${node} has several host endpoints, and without expectedIPs it is not known which one the connection passes`;
    return known[0] ?? all;
  }

  /** The addresses of a node: those that its object names first, then those that its host endpoints expect. */
  addressesOf(node: string): readonly Ip[] {
    const expected = this.hostsOf(node).flatMap(({ value }) => value.spec.expectedIPs.map((ip) => parseIp(ip)));
    return [...new Set([...this.#addressesOf(node), ...expected])];
  }

  /** The node that has the address. */
  withAddress(address: Ip): string | undefined {
    const cidr = hostCidr(address);
    for (const [name, node] of this.#nodes) if (nodeOf(node).facts.addresses.includes(cidr)) return name;
    for (const [name, hosts] of this.#hosts)
      if (hosts.some(({ value }) => value.spec.expectedIPs.some((ip) => parseIp(ip) === address))) return name;
    return undefined;
  }

  /** Whether a packet to a pod goes from node to node inside another, by the mode of its pool. */
  encapsulated(destination: Ip, from: string, to: string): boolean {
    const pool = this.#pools.find(({ cidr }) => contains(cidr, destination))?.spec;
    if (!pool) return false;
    const modes = [pool.vxlanMode, pool.ipipMode];
    if (modes.includes('Always')) return true;
    return modes.includes('CrossSubnet') && !this.#sameSubnet(from, to);
  }

  /** The field of the FelixConfiguration that counts for a node. */
  field<K extends keyof FelixConfiguration['spec']>(node: string, field: K): FelixConfiguration['spec'][K] | undefined {
    return [`node.${node}`, 'default']
      .map((name) => this.#configurations.get(name)?.[field])
      .find((value) => value !== undefined);
  }

  /** What FelixConfigurations say for the node; what its environment says is not stored. */
  failsafesOf(node: string): Failsafes {
    const given = (field: 'failsafeInboundHostPorts' | 'failsafeOutboundHostPorts') =>
      this.field(node, field)?.map(
        ({ protocol, port, net }): Failsafe => ({
          protocol: protocol.toLowerCase() as Failsafe['protocol'],
          port,
          ...(net !== undefined && { net: parseCidr(net) }),
        }),
      );
    return {
      inbound: given('failsafeInboundHostPorts') ?? defaultFailsafe.inbound,
      outbound: given('failsafeOutboundHostPorts') ?? defaultFailsafe.outbound,
    };
  }

  /** All that decides which host endpoint of a node a packet passes, and what it lets pass always, as text to compare. */
  view(node: string): string {
    const hosts = this.hostsOf(node).map(({ key, value: { spec } }) => [key, spec.interfaceName, spec.expectedIPs]);
    return JSON.stringify([hosts, this.#addressesOf(node), this.failsafesOf(node), this.#pools, this.#subnets(node)]);
  }

  #addressesOf(name: string): Ip[] {
    const node = this.#nodes.get(name);
    return node ? nodeOf(node).facts.addresses.map((cidr) => splitCidr(cidr).address) : [];
  }

  /** By the prefix lengths of the addresses that the nodes announce. */
  #sameSubnet(a: string, b: string): boolean {
    const others = this.#subnets(b).map((text) => splitCidr(text).address);
    return this.#subnets(a).some((text) => others.some((address) => sameFamilyHolds(parseCidr(text), address)));
  }

  #subnets(name: string): string[] {
    const { bgp } = this.#nodes.get(name)?.spec ?? {};
    return [bgp?.ipv4Address, bgp?.ipv6Address].flatMap((text) => (text === undefined ? [] : [text]));
  }
}

function sameFamilyHolds(net: Cidr, address: Ip): boolean {
  return familyOf(net) === familyOf(hostCidr(address)) && contains(net, address);
}

function valuesOf<V>(
  cluster: readonly Event[],
  type: Key['type'],
): { readonly key: string; readonly event: Event; readonly value: V }[] {
  return cluster.flatMap((event) =>
    event.op === 'set' && event.entry.key.type === type
      ? [{ key: keyText(event.entry.key), event, value: event.entry.value as V }]
      : [],
  );
}
