import {
  bits,
  type Cidr,
  cidrParts,
  type Family,
  familyOf,
  formatIp,
  hostCidr,
  ipBytes,
  parseCidr,
} from '../model/address.ts';
import type { BgpConfiguration, EndpointSlice, Node, Service } from '../model/kinds.ts';
import { familyOfSlice } from '../model/service.ts';

/*
 * Which service addresses a node announces (docs/decisions/0015). Pure: the same objects give the same prefixes,
 * whatever came first.
 */

/** A node that carries this label with the value `true` announces no service address. */
export const excludeLabel = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** Out of which ranges addresses are announced. */
export interface ServiceRanges {
  readonly cluster: readonly Cidr[];
  readonly external: readonly Cidr[];
  readonly loadBalancer: readonly Cidr[];
  /** Ranges of load balancer addresses are announced as a whole. */
  readonly aggregate: boolean;
}

/** The node that announces. */
export interface Announcer {
  /** Its name in Kubernetes, as endpoints have it. */
  readonly node: string;
  readonly excluded: boolean;
}

/** @param cluster `CALICO_ADVERTISE_CLUSTER_IPS`: a comma list that stands in for serviceClusterIPs @throws InputError */
export function rangesOf(configuration: BgpConfiguration | undefined, cluster?: string): ServiceRanges {
  const { serviceClusterIPs = [], serviceExternalIPs = [], serviceLoadBalancerIPs = [] } = configuration?.spec ?? {};
  const cidrs = (ranges: readonly { readonly cidr: string }[]) => ranges.map(({ cidr }) => parseCidr(cidr));
  const given = (cluster ?? '').split(',').map((text) => text.trim());
  const fromEnvironment = given.filter(Boolean).map((text) => parseCidr(text, 'CALICO_ADVERTISE_CLUSTER_IPS'));
  return {
    cluster: fromEnvironment.length > 0 ? fromEnvironment : cidrs(serviceClusterIPs),
    external: cidrs(serviceExternalIPs),
    loadBalancer: cidrs(serviceLoadBalancerIPs),
    aggregate: configuration?.spec.serviceLoadBalancerAggregation !== 'Disabled',
  };
}

/** @param reference `CALICO_K8S_NODE_REF`: the node's name in Kubernetes, where the Node object does not say it */
export function announcerOf({ metadata, spec }: Node, reference?: string): Announcer {
  const known = spec.orchRefs?.find(({ orchestrator }) => orchestrator === 'k8s')?.nodeName;
  return {
    node: reference || known || metadata.name,
    excluded: metadata.labels?.[excludeLabel] === 'true',
  };
}

/** The ranges that every node announces as a whole; a range of one address is its service's to announce. */
export function wholeRanges(ranges: ServiceRanges, { excluded }: Announcer): Cidr[] {
  if (excluded) return [];
  const { cluster, external, loadBalancer, aggregate } = ranges;
  return [...cluster, ...external, ...(aggregate ? loadBalancer : [])].filter((range) => !isSingle(range));
}

/** The addresses of one service that this node announces by themselves, as /32 and /128. */
export function servicePrefixes(
  { spec }: Service,
  slices: Iterable<EndpointSlice>,
  ranges: ServiceRanges,
  announcer: Announcer,
): Cidr[] {
  // kube-proxy serves no address of a headless service.
  if (announcer.excluded || spec.type === 'ExternalName' || spec.clusterIPs.length === 0) return [];
  const external = spec.externalTrafficPolicy === 'Local';
  const internal = external || spec.internalTrafficPolicy === 'Local';
  // Most services: the ranges say all.
  if (!internal && onlyWhole(ranges)) return [];
  const ready = readiness(slices, announcer.node);
  const told = (addresses: readonly string[], among: readonly Cidr[], local: boolean, whole: boolean) =>
    addresses
      .map((text) => ipBytes(text))
      .filter((address) => {
        const within = parsedRanges(among).filter((range) => covers(range, address));
        if (within.length === 0) return false;
        const { here, anywhere } = ready[address.length === 4 ? 4 : 6];
        return local ? here : within.some(({ single }) => single) || (!whole && anywhere);
      });
  const found = [
    ...told(spec.clusterIPs, ranges.cluster, internal, true),
    ...told(spec.externalIPs, ranges.external, external, true),
    ...told(spec.loadBalancerIPs, ranges.loadBalancer, external, ranges.aggregate),
  ];
  return [...new Set(found.map((address) => hostCidr(formatIp(address))))];
}

/** Everything that this node announces for services, sorted. */
export function serviceOriginations(
  services: Iterable<Service>,
  slices: Iterable<EndpointSlice>,
  ranges: ServiceRanges,
  announcer: Announcer,
): Cidr[] {
  const bySlice = Map.groupBy(slices, ({ metadata, spec }) => serviceKey(metadata.namespace, spec.service));
  const found = new Set(wholeRanges(ranges, announcer));
  for (const service of services) {
    const own = bySlice.get(serviceKey(service.metadata.namespace, service.metadata.name)) ?? [];
    for (const prefix of servicePrefixes(service, own, ranges, announcer)) found.add(prefix);
  }
  return [...found].sort();
}

/** Text by which a service and its slices find each other. */
export function serviceKey(namespace: string | undefined, name: string | undefined): string {
  return `${namespace}/${name ?? ''}`;
}

interface Readiness {
  here: boolean;
  anywhere: boolean;
}

/** Whether there are ready endpoints, on the node and at all. An endpoint that does not say is ready (EndpointConditions). */
function readiness(slices: Iterable<EndpointSlice>, node: string): Record<Family, Readiness> {
  const found = { 4: { here: false, anywhere: false }, 6: { here: false, anywhere: false } };
  for (const { spec } of slices) {
    const family = familyOfSlice(spec);
    if (family === undefined) continue;
    for (const { nodeName, conditions } of spec.endpoints) {
      if (conditions.ready === false) continue;
      found[family].anywhere = true;
      if (nodeName === node) found[family].here = true;
    }
  }
  return found;
}

/** A range taken apart once: ten thousand services are held against it at a change of the configuration. */
interface ParsedRange {
  readonly octets: Uint8Array;
  readonly length: number;
  readonly single: boolean;
}

const parsed = new WeakMap<readonly Cidr[], readonly ParsedRange[]>();

function parsedRanges(ranges: readonly Cidr[]): readonly ParsedRange[] {
  const known = parsed.get(ranges);
  if (known) return known;
  const found = ranges.map((range) => {
    const { address, length } = cidrParts(range);
    return { octets: ipBytes(address), length, single: isSingle(range) };
  });
  parsed.set(ranges, found);
  return found;
}

/** No address of a service with cluster policy is announced by itself. */
function onlyWhole({ cluster, external, loadBalancer, aggregate }: ServiceRanges): boolean {
  const single = (ranges: readonly Cidr[]) => parsedRanges(ranges).some((range) => range.single);
  return aggregate && !single(cluster) && !single(external) && !single(loadBalancer);
}

function covers({ octets, length }: ParsedRange, address: Uint8Array): boolean {
  if (octets.length !== address.length) return false;
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) if (octets[i] !== address[i]) return false;
  const mask = (0xff00 >> (length & 7)) & 0xff;
  return mask === 0 || (((octets[whole] ?? 0) ^ (address[whole] ?? 0)) & mask) === 0;
}

function isSingle(range: Cidr): boolean {
  return cidrParts(range).length === bits(familyOf(range));
}
