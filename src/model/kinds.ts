import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { asNumber, bgpConfigurationSpec, bgpFilterSpec, bgpPeerSpec } from './bgp.ts';
import { endpointPort } from './endpoint-port.ts';
import { expectation } from './expectation.ts';
import { felixConfigurationSpec } from './felix-configuration.ts';
import { cidr, ip } from './fields.ts';
import { hostEndpointSpec } from './host-endpoint.ts';
import { kubeControllersConfigurationSpec } from './kube-controllers.ts';
import { calicoNodeStatusSpec } from './node-status.ts';
import {
  globalNetworkPolicySpec,
  networkPolicySpec,
  networkSetSpec,
  profileSpec,
  stagedGlobalNetworkPolicySpec,
  stagedKubernetesNetworkPolicySpec,
  stagedNetworkPolicySpec,
  tierSpec,
} from './policy.ts';
import { apiVersion, type Resource } from './resource.ts';
import { endpointSliceSpec, serviceSpec } from './service.ts';

/*
 * The `projectcalico.org/v3` kinds that the agent reads and writes, with Calico's field names, defaults and limits.
 * Unknown fields are kept: another version of Calico may own them. Service and EndpointSlice are not Calico's.
 */

const mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i, 'expected a MAC such as 66:0a:0b:0c:0d:0e');

const encapsulation = z.enum(['Never', 'Always', 'CrossSubnet']);

export const ipPoolSpec = z.looseObject({
  cidr,
  ipipMode: encapsulation.default('Never'),
  vxlanMode: encapsulation.default('Never'),
  natOutgoing: z.boolean().default(false),
  disabled: z.boolean().default(false),
  disableBGPExport: z.boolean().default(false),
  blockSize: z.number().int().optional(),
  nodeSelector: z.string().default('all()'),
  namespaceSelector: z.string().optional(),
  allowedUses: z.array(z.enum(['Workload', 'Tunnel', 'LoadBalancer'])).default(['Workload', 'Tunnel']),
  assignmentMode: z.enum(['Automatic', 'Manual']).default('Automatic'),
});

/** Addresses that are not given automatically; a pod or service that asks for one by name still gets it. */
export const ipReservationSpec = z.looseObject({ reservedCIDRs: z.array(cidr).default([]) });

export const nodeSpec = z.looseObject({
  bgp: z
    .looseObject({
      asNumber: asNumber.optional(),
      ipv4Address: cidr.optional(),
      ipv6Address: cidr.optional(),
      ipv4IPIPTunnelAddr: ip.optional(),
      routeReflectorClusterID: ip.optional(),
    })
    .optional(),
  /** Of the node's VXLAN devices: their addresses, and MACs where these are not derived from the node's name. */
  ipv4VXLANTunnelAddr: ip.optional(),
  ipv6VXLANTunnelAddr: ip.optional(),
  vxlanTunnelMACAddr: mac.optional(),
  vxlanTunnelMACAddrV6: mac.optional(),
  orchRefs: z.array(z.looseObject({ nodeName: z.string().optional(), orchestrator: z.string() })).optional(),
  addresses: z.array(z.looseObject({ address: z.string(), type: z.string().optional() })).optional(),
});

export const workloadEndpointSpec = z.looseObject({
  orchestrator: z.string(),
  workload: z.string().optional(),
  node: z.string(),
  containerID: z.string().optional(),
  pod: z.string().optional(),
  endpoint: z.string(),
  serviceAccountName: z.string().optional(),
  ipNetworks: z.array(cidr).default([]),
  ipv4Gateway: z.string().optional(),
  ipv6Gateway: z.string().optional(),
  profiles: z.array(z.string()).default([]),
  interfaceName: z.string().regex(/^[a-zA-Z0-9_.-]{1,15}$/, 'expected a network device name'),
  mac: z.string().optional(),
  ports: z
    .array(
      endpointPort.extend({
        hostPort: z.number().int().optional(),
        hostIP: z.string().optional(),
      }),
    )
    .optional(),
  allowSpoofedSourcePrefixes: z.array(cidr).optional(),
  /** Bits a second, and bits; packets a second, and packets; TCP connections. */
  qosControls: z
    .looseObject({
      ingressBandwidth: z.number().int().min(0).optional(),
      ingressBurst: z.number().int().min(0).optional(),
      ingressPacketRate: z.number().int().min(0).optional(),
      ingressPacketBurst: z.number().int().min(0).optional(),
      ingressMaxConnections: z.number().int().min(0).optional(),
      egressBandwidth: z.number().int().min(0).optional(),
      egressBurst: z.number().int().min(0).optional(),
      egressPacketRate: z.number().int().min(0).optional(),
      egressPacketBurst: z.number().int().min(0).optional(),
      egressMaxConnections: z.number().int().min(0).optional(),
    })
    .optional(),
});

export const clusterInformationSpec = z.looseObject({
  clusterGUID: z.string().optional(),
  clusterType: z.string().optional(),
  calicoVersion: z.string().optional(),
  datastoreReady: z.boolean().optional(),
});

export const ipamConfigurationSpec = z.looseObject({
  strictAffinity: z.boolean().default(false),
  autoAllocateBlocks: z.boolean().default(true),
  maxBlocksPerHost: z.number().int().min(0).default(0),
});

/** Kind → schema of its spec, plural in keys and URLs, and whether it lives in a namespace. */
export const kinds = {
  BGPConfiguration: { plural: 'bgpconfigurations', namespaced: false, spec: bgpConfigurationSpec },
  BGPFilter: { plural: 'bgpfilters', namespaced: false, spec: bgpFilterSpec },
  BGPPeer: { plural: 'bgppeers', namespaced: false, spec: bgpPeerSpec },
  CalicoNodeStatus: { plural: 'caliconodestatuses', namespaced: false, spec: calicoNodeStatusSpec },
  ClusterInformation: { plural: 'clusterinformations', namespaced: false, spec: clusterInformationSpec },
  EndpointSlice: { plural: 'endpointslices', namespaced: true, spec: endpointSliceSpec },
  FelixConfiguration: { plural: 'felixconfigurations', namespaced: false, spec: felixConfigurationSpec },
  GlobalNetworkPolicy: { plural: 'globalnetworkpolicies', namespaced: false, spec: globalNetworkPolicySpec },
  GlobalNetworkSet: { plural: 'globalnetworksets', namespaced: false, spec: networkSetSpec },
  HostEndpoint: { plural: 'hostendpoints', namespaced: false, spec: hostEndpointSpec },
  IPAMConfiguration: { plural: 'ipamconfigurations', namespaced: false, spec: ipamConfigurationSpec },
  IPPool: { plural: 'ippools', namespaced: false, spec: ipPoolSpec },
  IPReservation: { plural: 'ipreservations', namespaced: false, spec: ipReservationSpec },
  KubeControllersConfiguration: {
    plural: 'kubecontrollersconfigurations',
    namespaced: false,
    spec: kubeControllersConfigurationSpec,
  },
  NetworkPolicy: { plural: 'networkpolicies', namespaced: true, spec: networkPolicySpec },
  NetworkSet: { plural: 'networksets', namespaced: true, spec: networkSetSpec },
  Node: { plural: 'nodes', namespaced: false, spec: nodeSpec },
  Profile: { plural: 'profiles', namespaced: false, spec: profileSpec },
  Service: { plural: 'services', namespaced: true, spec: serviceSpec },
  StagedGlobalNetworkPolicy: {
    plural: 'stagedglobalnetworkpolicies',
    namespaced: false,
    spec: stagedGlobalNetworkPolicySpec,
  },
  StagedKubernetesNetworkPolicy: {
    plural: 'stagedkubernetesnetworkpolicies',
    namespaced: true,
    spec: stagedKubernetesNetworkPolicySpec,
  },
  StagedNetworkPolicy: { plural: 'stagednetworkpolicies', namespaced: true, spec: stagedNetworkPolicySpec },
  Tier: { plural: 'tiers', namespaced: false, spec: tierSpec },
  WorkloadEndpoint: { plural: 'workloadendpoints', namespaced: true, spec: workloadEndpointSpec },
} as const;

export type Kind = keyof typeof kinds;
/** The spec of a kind after validation, defaults filled in. */
export type Spec<K extends Kind> = z.output<(typeof kinds)[K]['spec']>;
export type ResourceOf<K extends Kind> = Resource<K, Spec<K>>;
export type IpPool = ResourceOf<'IPPool'>;
export type IpReservation = ResourceOf<'IPReservation'>;
export type Node = ResourceOf<'Node'>;
export type HostEndpoint = ResourceOf<'HostEndpoint'>;
export type WorkloadEndpoint = ResourceOf<'WorkloadEndpoint'>;
export type KubeControllersConfiguration = ResourceOf<'KubeControllersConfiguration'>;
export type FelixConfiguration = ResourceOf<'FelixConfiguration'>;
export type BgpConfiguration = ResourceOf<'BGPConfiguration'>;
export type BgpFilter = ResourceOf<'BGPFilter'>;
export type BgpPeer = ResourceOf<'BGPPeer'>;
export type Profile = ResourceOf<'Profile'>;
export type NetworkPolicy = ResourceOf<'NetworkPolicy'>;
export type GlobalNetworkPolicy = ResourceOf<'GlobalNetworkPolicy'>;
export type NetworkSet = ResourceOf<'NetworkSet'>;
export type GlobalNetworkSet = ResourceOf<'GlobalNetworkSet'>;
export type Tier = ResourceOf<'Tier'>;
export type Service = ResourceOf<'Service'>;
export type EndpointSlice = ResourceOf<'EndpointSlice'>;

const metadata = z.looseObject({
  name: z.string().min(1).max(253),
  namespace: z.string().min(1).max(63).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

export function isKind(text: unknown): text is Kind {
  return typeof text === 'string' && Object.hasOwn(kinds, text);
}

const shapes = new Map<Kind, ReturnType<typeof buildShape>>();

function buildShape(kind: Kind) {
  return z.looseObject({
    kind: z.literal(kind),
    apiVersion: z.literal(apiVersion),
    metadata,
    spec: kinds[kind].spec as z.ZodType,
  });
}

/** The whole resource's schema, made once: zod compiles a schema at its first use. */
function shapeOf(kind: Kind) {
  const shape = shapes.get(kind) ?? buildShape(kind);
  shapes.set(kind, shape);
  return shape;
}

/**
 * Checks an object of unknown origin as a resource of `kind` and fills in the defaults.
 * @throws InputError that names the first wrong field (`IPPool(default).spec.cidr`) and its value
 */
export function parseResource<K extends Kind>(kind: K, value: unknown): ResourceOf<K> {
  const name = nameOf(value);
  const where = name === undefined ? kind : `${kind}(${name})`;
  const result = shapeOf(kind).safeParse(value);
  if (!result.success) throw firstIssue(result.error, value, where);
  if (kinds[kind].namespaced !== (result.data.metadata.namespace !== undefined)) {
    throw new InputError(
      `${where}.metadata.namespace`,
      result.data.metadata.namespace,
      kinds[kind].namespaced ? 'a namespace' : 'none: this kind has no namespace',
    );
  }
  return result.data as unknown as ResourceOf<K>;
}

/** Every problem that a schema finds in an object, in the order of its fields. */
export function resourceProblems(kind: Kind, value: unknown): InputError[] {
  const shape = z.looseObject({ metadata, spec: kinds[kind].spec as z.ZodType });
  const result = shape.safeParse(value);
  return result.success ? [] : issuesOf(result.error, value, kind);
}

/** The first problem that a schema found, as an InputError with the offending value. */
export function firstIssue(error: z.ZodError, input: unknown, where: string): InputError {
  return issuesOf(error, input, where)[0] ?? new InputError(where, input, 'a valid value');
}

/** All problems that a schema found, each with its field and the offending value. */
export function issuesOf(error: z.ZodError, input: unknown, where: string): InputError[] {
  return error.issues.flatMap((issue) => {
    let value: unknown = input;
    for (const step of issue.path)
      value = typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[step] : undefined;
    const field = issue.path.reduce<string>(
      (text, step) => (typeof step === 'number' ? `${text}[${step}]` : `${text}.${String(step)}`),
      where,
    );
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map(
        (key) => new InputError(`${field}.${key}`, (value as Record<string, unknown>)[key], 'no such field'),
      );
    return [new InputError(field, value, expectation(issue))];
  });
}

function nameOf(value: unknown): string | undefined {
  const found = (value as { metadata?: { name?: unknown } } | null | undefined)?.metadata?.name;
  return typeof found === 'string' ? found : undefined;
}
