import { show } from '../base/errors.ts';
import type { Other } from '../datastore/store.ts';
import { isKind, type Kind, kinds, type Node, type WorkloadEndpoint } from '../model/kinds.ts';
import type { Resource } from '../model/resource.ts';
import type { Item } from './dump.ts';

/*
 * What of a running Calico's configuration means nothing to Margay. Both work on the same objects, so a node goes over
 * by starting other agents on it; what is named here is what it loses by that. Pure.
 */

/** One thing that Calico follows and Margay does not. */
export interface Gap {
  /** `FelixConfiguration(default).spec.wireguardEnabled`, or an object as a whole. */
  readonly field: string;
  readonly value?: string;
  readonly detail: string;
}

/** Values with which a field of Calico's asks for nothing that would not happen anyway; `any` for those that tune Calico alone. */
const harmless: Readonly<Partial<Record<Kind, Readonly<Record<string, readonly unknown[] | 'any'>>>>> = {
  FelixConfiguration: {
    ...{
      bpfEnabled: [false],
      wireguardEnabled: [false],
      wireguardEnabledV6: [false],
      nftablesMode: ['Auto', 'Disabled'],
    },
    ...{
      chainInsertMode: ['insert'],
      deviceRouteProtocol: [3],
      deviceRouteSourceAddress: [''],
    },
    ...{
      iptablesFilterAllowAction: ['ACCEPT'],
      iptablesMangleAllowAction: ['ACCEPT'],
      iptablesFilterDenyAction: ['DROP'],
    },
    ...{ iptablesMarkMask: [0xffff0000] },
    ...{
      removeExternalRoutes: [true],
      routeSyncDisabled: [false],
    },
    ...{
      routeSource: ['CalicoIPAM'],
      routeTableRanges: [[]],
      interfaceExclude: ['kube-ipvs0'],
      floatingIPs: ['Disabled'],
    },
    ...{ endpointReportingEnabled: [false] },
    ...{ policySyncPathPrefix: [''] },
    ...{ kubeNodePortRanges: [['30000:32767']], dropActionOverride: ['Drop'] },
    ...{
      programClusterRoutes: ['EnabledIPIPOnly', 'Disabled'],
      ipv4NormalRoutePriority: [1024],
      ipv6NormalRoutePriority: [1024],
    },
    ...{ mtuIfacePattern: 'any', maxIpsetSize: 'any', awsSrcDstCheck: ['DoNothing'] },
    ...{ sidecarAccelerationEnabled: [false], windowsManageFirewallRules: ['Disabled'], serviceLoopPrevention: 'any' },
    ...{ flowLogsGoldmaneServer: [''], prometheusWireGuardMetricsEnabled: 'any' },
  },
  BGPConfiguration: {
    ...{ ignoredInterfaces: [[]], programClusterRoutes: ['EnabledNoEncapOnly'] },
    ...{ ipv4NormalRoutePriority: [1024], ipv6NormalRoutePriority: [1024] },
    ...{ localWorkloadPeeringIPV4: [''], localWorkloadPeeringIPV6: [''] },
  },
  ClusterInformation: { variant: 'any' },
  IPAMConfiguration: { kubeVirtVMAddressPersistence: 'any', ipCooldownSeconds: 'any' },
  KubeControllersConfiguration: { etcdV3CompactionPeriod: 'any', debugProfilePort: 'any' },
  GlobalNetworkPolicy: { performanceHints: 'any' },
  NetworkPolicy: { performanceHints: 'any' },
  Node: { interfaces: 'any' },
};

/** Settings by which Calico works, not what it does: periods, logs, reports, debugging. */
const tuning =
  /^(bpf(?!Enabled$)|debug|flowLogs(?!Goldmane)|genericXDP|goGCThreshold|goM|health|log(?!Prefix)|netlink|nftables(?!Mode)|prometheus|usageReporting|wireguard(?!Enabled)|windows(?!Manage)|xdp|.*(Interval|Timeout|Delay)(Secs|Millis)?$|endpointReportingDelay|endpointStatus|dataplane|typha|featureDetect|featureGates|ipsets|iptables(Lock|Post|Refresh)|requireMTUFile|bgpLog)/;

/** What is missed, where the name does not say it. */
const details: Readonly<Record<string, string>> = {
  wireguardEnabled: 'traffic between nodes would not be encrypted',
  wireguardEnabledV6: 'traffic between nodes would not be encrypted',
  wireguard: 'traffic with this node would not be encrypted',
  bpfEnabled: 'policy and services are handled by iptables and kube-proxy: switch the eBPF dataplane off first',
  nftablesMode: 'rules are written by iptables (of either backend)',
  floatingIPs: "addresses in a pod's annotation floatingIPs would not reach it",
  ipNATs: 'these addresses of the annotation floatingIPs would not lead to the pod',
  reachableBy: 'no route to the peer is made; the node needs one by other means',
  localWorkloadSelector: 'peering with pods of the node is not offered',
  localWorkloadPeeringIPV4: 'peering with pods of the node is not offered',
  localWorkloadPeeringIPV6: 'peering with pods of the node is not offered',
  deviceRouteProtocol: 'all routes have protocol 80',
};

/** Kinds that are not known here, and what becomes of what they ask for. */
const unknownKinds: Readonly<Record<string, string>> = {
  livemigrations: 'virtual machines are not moved with their addresses',
};

/** Everything that would be missed. */
export function gapsOf(items: readonly Item[], others: readonly Other[]): Gap[] {
  return [...items.flatMap((item) => [...unknownFields(item), ...specialGaps(item)]), ...others.map(otherGap)];
}

function otherGap({ plural, namespace, name }: Other): Gap {
  const field = `${plural}/${namespace === undefined ? '' : `${namespace}/`}${name}`;
  return { field, detail: unknownKinds[plural] ?? 'a kind that is not known' };
}

/** Fields of a resource that nothing reads. */
function unknownFields({ key, value }: Item): Gap[] {
  if (!isKind(key.type)) return [];
  const known = Object.keys(kinds[key.type].spec.shape);
  const { spec, metadata } = value as Resource;
  const whose = metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
  return Object.entries(spec as Readonly<Record<string, unknown>>).flatMap(([name, found]) => {
    if (known.includes(name) || isHarmless(key.type as Kind, name, found)) return [];
    const field = `${key.type}(${whose}).spec.${name}`;
    return [{ field, value: show(found), detail: details[name] ?? 'has no effect' }];
  });
}

/**
 * Whether nothing is missed when a field of a kind's spec that no schema here names has this value: it asks for what
 * happens anyway, or tunes Calico's own programs.
 */
export function isHarmless(kind: Kind, name: string, value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (kind === 'FelixConfiguration' && tuning.test(name)) return true;
  const values = harmless[kind]?.[name];
  if (values === undefined) return false;
  return values === 'any' || values.some((each) => textOf(each) === textOf(value));
}

/** Words in any letter case. */
function textOf(value: unknown): string {
  return JSON.stringify(value).toLowerCase();
}

/** Known fields with values that are not followed. */
function specialGaps({ key, value }: Item): Gap[] {
  switch (key.type) {
    case 'Node':
      return nodeGaps(value as Node);
    case 'WorkloadEndpoint':
      return endpointGaps(value as WorkloadEndpoint);
    default:
      return [];
  }
}

function nodeGaps({ metadata, ...node }: Node): Gap[] {
  const { status } = node as {
    readonly status?: { readonly wireguardPublicKey?: string; readonly wireguardPublicKeyV6?: string };
  };
  const keys = (['wireguardPublicKey', 'wireguardPublicKeyV6'] as const).filter((name) => status?.[name]);
  return keys.map((name) => ({
    field: `Node(${metadata.name}).status.${name}`,
    detail: 'traffic with it would not be encrypted',
  }));
}

const controls = ['ingressBandwidth', 'ingressBurst', 'egressBandwidth', 'egressBurst'];

function endpointGaps({ metadata, spec }: WorkloadEndpoint): Gap[] {
  const at = `WorkloadEndpoint(${metadata.namespace}/${metadata.name}).spec`;
  const more = Object.keys(spec.qosControls ?? {}).filter((name) => !controls.includes(name));
  return [
    ...(spec.orchestrator === 'k8s'
      ? []
      : [{ field: `${at}.orchestrator`, value: spec.orchestrator, detail: 'only pods of Kubernetes are served' }]),
    ...more.map((name) => ({ field: `${at}.qosControls.${name}`, detail: 'is not limited' })),
  ];
}
