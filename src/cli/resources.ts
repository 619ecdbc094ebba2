import type { InvalidEntry, Store } from '../datastore/store.ts';
import type { Kind, ResourceOf } from '../model/kinds.ts';
import { kubernetesName } from '../model/kubernetes.ts';
import type { Table } from './output.ts';

/** How a kind of stored object is listed for people. */
export interface View<K extends Kind = Kind> {
  readonly kind: K;
  readonly columns: readonly string[];
  /** Column texts without the namespace, which comes first where it matters. */
  row(resource: ResourceOf<K>): readonly string[];
}

const yesNo = (value: boolean) => (value ? 'yes' : 'no');
const list = (values: readonly string[] | undefined) => (values?.length ? values.join(',') : '-');

const nodes: View<'Node'> = {
  kind: 'Node',
  columns: ['name', 'asn', 'ipv4', 'ipv6'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.bgp?.asNumber === undefined ? '(cluster)' : String(spec.bgp.asNumber),
    spec.bgp?.ipv4Address ?? '-',
    spec.bgp?.ipv6Address ?? '-',
  ],
};

const pods: View<'WorkloadEndpoint'> = {
  kind: 'WorkloadEndpoint',
  columns: ['name', 'node', 'addresses', 'interface', 'labels'],
  row: ({ metadata, spec }) => [
    spec.pod ?? metadata.name,
    spec.node,
    list(spec.ipNetworks.map((network) => network.replace(/\/(32|128)$/, ''))),
    spec.interfaceName,
    list(ownLabels(metadata.labels)),
  ],
};

const pools: View<'IPPool'> = {
  kind: 'IPPool',
  columns: ['name', 'cidr', 'block', 'nat', 'export', 'usable', 'nodes'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.cidr,
    `/${spec.blockSize ?? (spec.cidr.includes(':') ? 122 : 26)}`,
    yesNo(spec.natOutgoing),
    yesNo(!spec.disableBGPExport),
    yesNo(!spec.disabled),
    spec.nodeSelector,
  ],
};

const reservations: View<'IPReservation'> = {
  kind: 'IPReservation',
  columns: ['name', 'reserved'],
  row: ({ metadata, spec }) => [metadata.name, shortList(spec.reservedCIDRs)],
};

const policyColumns = ['name', 'tier', 'order', 'types', 'selector'];
const policyRow = ({
  metadata,
  spec,
}: ResourceOf<'NetworkPolicy' | 'GlobalNetworkPolicy' | 'StagedNetworkPolicy' | 'StagedGlobalNetworkPolicy'>) => [
  kubernetesName('NetworkPolicy', metadata.name)?.name ?? metadata.name,
  spec.tier ?? 'default',
  spec.order === undefined ? '-' : String(spec.order),
  list(spec.types),
  spec.selector ?? 'all()',
];

const policies: View<'NetworkPolicy'> = { kind: 'NetworkPolicy', columns: policyColumns, row: policyRow };

const globalPolicies: View<'GlobalNetworkPolicy'> = {
  kind: 'GlobalNetworkPolicy',
  columns: [...policyColumns, 'namespaces'],
  row: (resource) => [...policyRow(resource), resource.spec.namespaceSelector ?? '-'],
};

const stagedPolicies: View<'StagedNetworkPolicy'> = {
  kind: 'StagedNetworkPolicy',
  columns: [...policyColumns, 'action'],
  row: (resource) => [...policyRow(resource), resource.spec.stagedAction],
};

const stagedGlobalPolicies: View<'StagedGlobalNetworkPolicy'> = {
  kind: 'StagedGlobalNetworkPolicy',
  columns: [...policyColumns, 'namespaces', 'action'],
  row: (resource) => [...policyRow(resource), resource.spec.namespaceSelector ?? '-', resource.spec.stagedAction],
};

const stagedKubernetesPolicies: View<'StagedKubernetesNetworkPolicy'> = {
  kind: 'StagedKubernetesNetworkPolicy',
  columns: ['name', 'types', 'action'],
  row: ({ metadata, spec }) => [metadata.name, list(spec.policyTypes ?? undefined), spec.stagedAction],
};

const hostEndpoints: View<'HostEndpoint'> = {
  kind: 'HostEndpoint',
  columns: ['name', 'node', 'interface', 'addresses', 'labels'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.node,
    spec.interfaceName ?? '-',
    list(spec.expectedIPs),
    list(ownLabels(metadata.labels)),
  ],
};

const tiers: View<'Tier'> = {
  kind: 'Tier',
  columns: ['name', 'order', 'default'],
  row: ({ metadata, spec }) => [metadata.name, String(spec.order), spec.defaultAction],
};

const netsColumns = ['name', 'nets', 'labels'];
const netsRow = ({ metadata, spec }: ResourceOf<'NetworkSet' | 'GlobalNetworkSet'>) => [
  metadata.name,
  shortList(spec.nets),
  list(ownLabels(metadata.labels)),
];
const networkSets: View<'NetworkSet'> = { kind: 'NetworkSet', columns: netsColumns, row: netsRow };
const globalNetworkSets: View<'GlobalNetworkSet'> = { kind: 'GlobalNetworkSet', columns: netsColumns, row: netsRow };

const profiles: View<'Profile'> = {
  kind: 'Profile',
  columns: ['name', 'of', 'labels'],
  row: ({ metadata, spec }) => [
    metadata.name,
    kubernetesTitle(metadata.name),
    list(Object.entries(spec.labelsToApply ?? {}).map(([name, value]) => `${name}=${value}`)),
  ],
};

const bgpPeers: View<'BGPPeer'> = {
  kind: 'BGPPeer',
  columns: ['name', 'peer', 'asn', 'nodes'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.peerIP ?? spec.peerSelector ?? '-',
    spec.asNumber === undefined ? '-' : String(spec.asNumber),
    spec.node ?? spec.nodeSelector ?? 'all()',
  ],
};

const services: View<'Service'> = {
  kind: 'Service',
  columns: ['name', 'type', 'cluster', 'external', 'loadbalancer', 'policy'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.type,
    list(spec.clusterIPs),
    list(spec.externalIPs),
    list(spec.loadBalancerIPs),
    spec.externalTrafficPolicy,
  ],
};

const endpointSlices: View<'EndpointSlice'> = {
  kind: 'EndpointSlice',
  columns: ['name', 'service', 'family', 'endpoints', 'nodes'],
  row: ({ metadata, spec }) => [
    metadata.name,
    spec.service ?? '-',
    spec.addressType,
    String(spec.endpoints.length),
    list([...new Set(spec.endpoints.flatMap(({ nodeName }) => nodeName ?? []))].sort()),
  ],
};

/** What `get` takes → how it is shown. */
export const views: Readonly<Record<string, View>> = {
  nodes: nodes as unknown as View,
  pods: pods as unknown as View,
  pools: pools as unknown as View,
  reservations: reservations as unknown as View,
  policies: policies as unknown as View,
  globalpolicies: globalPolicies as unknown as View,
  stagedpolicies: stagedPolicies as unknown as View,
  stagedglobalpolicies: stagedGlobalPolicies as unknown as View,
  stagedkubernetespolicies: stagedKubernetesPolicies as unknown as View,
  hostendpoints: hostEndpoints as unknown as View,
  tiers: tiers as unknown as View,
  networksets: networkSets as unknown as View,
  globalnetworksets: globalNetworkSets as unknown as View,
  profiles: profiles as unknown as View,
  bgppeers: bgpPeers as unknown as View,
  services: services as unknown as View,
  endpointslices: endpointSlices as unknown as View,
};

/** Names that mean the same. */
export const aliases: Readonly<Record<string, string>> = {
  node: 'nodes',
  pod: 'pods',
  workloadendpoints: 'pods',
  workloadendpoint: 'pods',
  pool: 'pools',
  ippools: 'pools',
  ippool: 'pools',
  reservation: 'reservations',
  ipreservations: 'reservations',
  ipreservation: 'reservations',
  policy: 'policies',
  networkpolicies: 'policies',
  networkpolicy: 'policies',
  netpol: 'policies',
  globalpolicy: 'globalpolicies',
  globalnetworkpolicies: 'globalpolicies',
  globalnetworkpolicy: 'globalpolicies',
  gnp: 'globalpolicies',
  stagednetworkpolicies: 'stagedpolicies',
  stagedglobalnetworkpolicies: 'stagedglobalpolicies',
  stagedkubernetesnetworkpolicies: 'stagedkubernetespolicies',
  hostendpoint: 'hostendpoints',
  hep: 'hostendpoints',
  tier: 'tiers',
  networkset: 'networksets',
  globalnetworkset: 'globalnetworksets',
  profile: 'profiles',
  bgppeer: 'bgppeers',
  service: 'services',
  svc: 'services',
  endpointslice: 'endpointslices',
};

export interface Listed {
  readonly resources: readonly ResourceOf<Kind>[];
  readonly invalid: readonly InvalidEntry[];
}

/** Everything of a kind, sorted by namespace and name; `name` narrows it to one. */
export async function listResources(store: Store, view: View, namespace?: string, name?: string): Promise<Listed> {
  const { entries, invalid } = await store.list(view.kind, namespace === undefined ? {} : { namespace });
  const resources = entries
    .map(({ value }) => value as ResourceOf<Kind>)
    .filter((resource) => name === undefined || namesOf(resource).includes(name))
    .sort((a, b) => compareText(sortKey(a), sortKey(b)));
  return { resources, invalid };
}

/** The name it is stored under, and those that people use. */
function namesOf({ kind, metadata, spec }: ResourceOf<Kind>): (string | undefined)[] {
  const pod = kind === 'WorkloadEndpoint' ? (spec as { pod?: string }).pod : undefined;
  return [metadata.name, kubernetesName(kind, metadata.name)?.name, pod];
}

/** A table of resources, with a namespace column when they come from several. */
export function tableOf(view: View, resources: readonly ResourceOf<Kind>[], withNamespace: boolean): Table {
  return {
    columns: withNamespace ? ['namespace', ...view.columns] : view.columns,
    rows: resources.map((resource) =>
      withNamespace ? [resource.metadata.namespace ?? '-', ...view.row(resource)] : view.row(resource),
    ),
  };
}

/** At most four, or three and how many there are. */
function shortList(texts: readonly string[]): string {
  return texts.length > 4 ? `${texts.slice(0, 3).join(',')},… (${texts.length})` : list(texts);
}

function ownLabels(labels: Readonly<Record<string, string>> | undefined): string[] {
  return Object.entries(labels ?? {})
    .filter(([name]) => !name.startsWith('projectcalico.org/'))
    .map(([name, value]) => `${name}=${value}`);
}

function kubernetesTitle(name: string): string {
  const known = kubernetesName('Profile', name);
  if (!known) return '-';
  return `${known.kind} ${known.namespace === undefined ? '' : `${known.namespace}/`}${known.name}`;
}

function sortKey({ metadata }: ResourceOf<Kind>): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
