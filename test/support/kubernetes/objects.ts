/* What the test API server knows of the API: its resources, and how they answer. */

/** Any JSON object. */
export interface Json {
  [field: string]: unknown;
}

export interface TestObject extends Json {
  metadata: Json & {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: Json;
  status?: Json;
}

export interface TestResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Of an installed definition, not of the server itself. */
  readonly custom: boolean;
  /** Whether `/status` is a resource of its own. */
  readonly status: boolean;
  /** Returns the object as stored; throws Refusal. */
  readonly admit?: (object: TestObject) => TestObject;
}

/** An answer that says no: `meta/v1 Status`. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details: Json = {},
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }

  get status(): Json {
    const { code, reason, message, details } = this;
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, details, code };
  }
}

function own(
  group: string,
  version: string,
  kind: string,
  plural: string,
  namespaced: boolean,
  status = false,
): TestResource {
  return { group, version, plural, kind, namespaced, custom: false, status };
}

export const builtIn: readonly TestResource[] = [
  own('', 'v1', 'Namespace', 'namespaces', false, true),
  own('', 'v1', 'Node', 'nodes', false, true),
  own('', 'v1', 'Pod', 'pods', true, true),
  own('', 'v1', 'Service', 'services', true, true),
  own('', 'v1', 'ServiceAccount', 'serviceaccounts', true),
  own('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', true),
  own('networking.k8s.io', 'v1', 'NetworkPolicy', 'networkpolicies', true),
  own('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', 'customresourcedefinitions', false, true),
];

/** A definition's resource. */
export function custom(group: string, version: string, kind: string, plural: string, namespaced = false): TestResource {
  return { group, version, plural, kind, namespaced, custom: true, status: false };
}

const calico: readonly (readonly [string, string, boolean?])[] = [
  ['BGPConfiguration', 'bgpconfigurations'],
  ['BGPFilter', 'bgpfilters'],
  ['BGPPeer', 'bgppeers'],
  ['BlockAffinity', 'blockaffinities'],
  ['ClusterInformation', 'clusterinformations'],
  ['FelixConfiguration', 'felixconfigurations'],
  ['GlobalNetworkPolicy', 'globalnetworkpolicies'],
  ['GlobalNetworkSet', 'globalnetworksets'],
  ['IPAMBlock', 'ipamblocks'],
  ['IPAMConfig', 'ipamconfigs'],
  ['IPAMHandle', 'ipamhandles'],
  ['IPPool', 'ippools'],
  ['NetworkPolicy', 'networkpolicies', true],
  ['NetworkSet', 'networksets', true],
  ['StagedGlobalNetworkPolicy', 'stagedglobalnetworkpolicies'],
  ['StagedKubernetesNetworkPolicy', 'stagedkubernetesnetworkpolicies', true],
  ['StagedNetworkPolicy', 'stagednetworkpolicies', true],
  ['Tier', 'tiers'],
];

/** Calico's definitions as a cluster has them. */
export const calicoResources: readonly TestResource[] = calico.map(([kind, plural, namespaced = false]) =>
  custom('crd.projectcalico.org', 'v1', kind, plural, namespaced),
);

export function apiVersionOf({ group, version }: TestResource): string {
  return group === '' ? version : `${group}/${version}`;
}

export function idOf({ group, plural }: TestResource): string {
  return group === '' ? plural : `${plural}.${group}`;
}
