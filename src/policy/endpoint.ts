import { type Cidr, hostCidr, parseCidr, parseIp } from '../model/address.ts';
import type { HostEndpoint, WorkloadEndpoint } from '../model/kinds.ts';
import { namespaceLabel } from '../model/selector.ts';
import type { LabelMap } from './labels.ts';
import type { EndpointFacts, PortProtocol } from './members.ts';
import { portProtocolNumbers, portProtocols } from './port-protocols.ts';

/** What brings addresses into sets: a workload endpoint, or a network set. */
export interface Labelled {
  readonly key: string;
  readonly profiles: readonly string[];
  /** Without those inherited from profiles. */
  readonly labels: LabelMap;
  readonly facts: EndpointFacts;
}

/** What policy needs of a workload endpoint. */
export interface Endpoint extends Labelled {
  readonly node: string;
  /** Empty for a host endpoint that is found by its addresses. */
  readonly interfaceName: string;
  readonly host: boolean;
}

/** By name and by number. */
const protocols: ReadonlyMap<string, PortProtocol> = new Map(
  portProtocols.flatMap((name) => [
    [name, name],
    [String(portProtocolNumbers[name]), name],
  ]),
);

export function endpointOf(key: string, { metadata, spec }: WorkloadEndpoint): Endpoint {
  return {
    key,
    node: spec.node,
    interfaceName: spec.interfaceName,
    host: false,
    profiles: spec.profiles,
    labels: ownLabels(metadata.labels ?? {}, metadata.namespace ?? '', spec),
    facts: {
      addresses: spec.ipNetworks.map((cidr) => parseCidr(cidr)),
      ports: namedPorts(spec.ports),
    },
  };
}

export function hostEndpointOf(key: string, { metadata, spec }: HostEndpoint): Endpoint {
  return {
    key,
    node: spec.node,
    interfaceName: spec.interfaceName ?? '',
    host: true,
    profiles: spec.profiles,
    labels: unclaimed(metadata.labels ?? {}),
    facts: { addresses: spec.expectedIPs.map((ip) => hostCidr(parseIp(ip))), ports: namedPorts(spec.ports) },
  };
}

/** A node's own devices: all but its pods'. */
export type Devices = ReadonlyMap<string, ReadonlySet<Cidr>>;

/**
 * The devices of an endpoint: the one that it names; without a name, those that have one of its addresses. The loopback
 * device is protected by its name only: what it carries came from the host itself.
 */
export function devicesOf({ interfaceName, facts }: Endpoint, devices: Devices): string[] {
  if (interfaceName !== '') return [interfaceName];
  const found = [...devices].filter(
    ([device, addresses]) => device !== 'lo' && facts.addresses.some((address) => addresses.has(address)),
  );
  return found.map(([device]) => device).sort();
}

function namedPorts(ports: HostEndpoint['spec']['ports'] = []): EndpointFacts['ports'] {
  return ports.flatMap(({ name, protocol, port }) => {
    const known = protocols.get(String(protocol).toLowerCase());
    return known ? [{ name, protocol: known, port }] : [];
  });
}

/** Labels that say where an endpoint belongs come from its place and not from its author, who could claim any. */
function ownLabels(
  labels: Readonly<Record<string, string>>,
  namespace: string,
  { orchestrator, serviceAccountName }: WorkloadEndpoint['spec'],
): LabelMap {
  const own = unclaimed(labels);
  own.set(namespaceLabel, namespace);
  own.set('projectcalico.org/orchestrator', orchestrator);
  if (serviceAccountName !== undefined) own.set('projectcalico.org/serviceaccount', serviceAccountName);
  return own;
}

/** Without labels that only a place gives: those inherited from namespaces and service accounts, and the namespace. */
export function unclaimed(labels: Readonly<Record<string, string>>): Map<string, string> {
  return new Map(Object.entries(labels).filter(([label]) => !/^pc(ns|sa)\./.test(label) && label !== namespaceLabel));
}

/** Own labels, then those of the profiles in order; the first to name a label wins. */
export function effectiveLabels(endpoint: Labelled, inherited: (profile: string) => LabelMap | undefined): LabelMap {
  const labels = new Map(endpoint.labels);
  for (const profile of endpoint.profiles) {
    for (const [label, value] of inherited(profile) ?? []) if (!labels.has(label)) labels.set(label, value);
  }
  return labels;
}
