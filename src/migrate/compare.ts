import { isDeepStrictEqual } from 'node:util';
import { show } from '../base/errors.ts';
import { keyText, type Value } from '../datastore/store.ts';
import type { Block, BlockAffinity, Handle, IpamConfig } from '../model/ipam.ts';
import type { Node, WorkloadEndpoint } from '../model/kinds.ts';
import type { Resource } from '../model/resource.ts';
import { byKey, type Item, isKubernetesOwn } from './dump.ts';
import { withKubernetesNames } from './rename.ts';

/* What two datastores hold, side by side: what both can say of an object, and where they say something else. Pure. */

/** The form in which two stores can be compared: `kubernetes` when one of them is the Kubernetes API. */
export type Form = 'etcd' | 'kubernetes';

export interface Difference {
  /** `IPPool/default-ipv4-ippool` */
  readonly object: string;
  /** `spec.cidr`; empty when the whole object is on one side only. */
  readonly field: string;
  /** The values as text; undefined where there is none. */
  readonly left?: string;
  readonly right?: string;
}

/** Every difference, object by object in the order of their names. */
export function differences(left: readonly Item[], right: readonly Item[], form: Form): Difference[] {
  const [here, there] = [left, right].map((items) => byKey(comparable(items, form)));
  const names = [...new Set([...(here?.keys() ?? []), ...(there?.keys() ?? [])])].sort();
  return names.flatMap((object) => {
    const [a, b] = [here?.get(object), there?.get(object)];
    if (a && b) return fieldDifferences(essenceOf(a, form), essenceOf(b, form), object);
    return [{ object, field: '', ...(a ? { left: 'present' } : {}), ...(b ? { right: 'present' } : {}) }];
  });
}

/** Items of which a store of this form can hold its own copy. */
export function comparable(items: readonly Item[], form: Form): readonly Item[] {
  if (form === 'etcd') return items;
  // There the two names of the IPAM settings are one object.
  const settings = items.some(({ key }) => key.type === 'IpamConfig');
  return withKubernetesNames(items).filter(
    ({ key }) => !isKubernetesOwn(key) && !(settings && key.type === 'IPAMConfiguration'),
  );
}

/** Whether both say the same as far as the form can say it. */
export function sameEssence(a: Item, b: Item, form: Form): boolean {
  return isDeepStrictEqual(essenceOf(a, form), essenceOf(b, form));
}

/** What is compared of an item: not what a datastore adds by itself. */
export function essenceOf({ key, value }: Item, form: Form): unknown {
  switch (key.type) {
    case 'Block': {
      const { attributes, affinity, affinity_claim_time, ...rest } = value as Block & { strictAffinity?: boolean };
      return {
        ...rest,
        affinity: affinity ?? null,
        claimed: affinity_claim_time ?? null,
        attributes: attributes ?? [],
      };
    }
    case 'BlockAffinity': {
      const { state } = value as BlockAffinity;
      return { state: state === '' ? 'confirmed' : state };
    }
    case 'Handle':
      return { block: (value as Handle).block };
    case 'IpamConfig':
      return { ...defaultConfig, ...(value as IpamConfig) };
    case 'Node':
      return form === 'kubernetes' ? { spec: nodeFacts(value as Node) } : resourceEssence(value);
    case 'WorkloadEndpoint':
      return form === 'kubernetes' ? { spec: endpointFacts(value as WorkloadEndpoint) } : resourceEssence(value);
    default:
      return resourceEssence(value);
  }
}

const defaultConfig = {
  strict_affinity: false,
  auto_allocate_blocks: false,
  maxBlocksPerHost: 0,
  ipCooldownSeconds: 0,
};

function resourceEssence(value: Value<Item['key']['type']>): unknown {
  const { metadata, spec } = value as Resource;
  const { labels = {}, annotations = {} } = metadata;
  return plain({ metadata: { labels, annotations }, spec });
}

/** What annotations of a Kubernetes Node hold. */
export function nodeFacts({ spec }: Node): object {
  const { bgp = {}, ipv4VXLANTunnelAddr, ipv6VXLANTunnelAddr, vxlanTunnelMACAddr, vxlanTunnelMACAddrV6 } = spec;
  const { ipv4Address, ipv6Address, asNumber, routeReflectorClusterID, ipv4IPIPTunnelAddr } = bgp;
  const { wireguard } = spec as { readonly wireguard?: unknown };
  const own = plain({ ipv4Address, ipv6Address, asNumber, routeReflectorClusterID, ipv4IPIPTunnelAddr });
  const tunnels = { ipv4VXLANTunnelAddr, ipv6VXLANTunnelAddr, vxlanTunnelMACAddr, vxlanTunnelMACAddrV6 };
  return plain({ bgp: Object.keys(own).length > 0 ? own : undefined, ...tunnels, wireguard });
}

function endpointFacts({ spec }: WorkloadEndpoint): object {
  return { node: spec.node, pod: spec.pod, ipNetworks: [...spec.ipNetworks].sort() };
}

/** The same without fields that are undefined. */
function plain<T extends object>(value: T): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]) => {
      if (field === undefined) return [];
      const inner = typeof field === 'object' && field !== null && !Array.isArray(field) ? plain(field) : field;
      return [[name, inner] as const];
    }),
  );
}

/** The innermost fields in which two values differ; lists differ as a whole. */
export function fieldDifferences(left: unknown, right: unknown, object: string, path = ''): Difference[] {
  if (isDeepStrictEqual(left, right)) return [];
  if (!isRecord(left) || !isRecord(right)) return [difference(object, path, left, right)];
  const fields = [...new Set([...Object.keys(left), ...Object.keys(right)])].sort();
  return fields.flatMap((field) =>
    fieldDifferences(left[field], right[field], object, path === '' ? field : `${path}.${field}`),
  );
}

function difference(object: string, field: string, left: unknown, right: unknown): Difference {
  return {
    object,
    field,
    ...(left !== undefined && { left: textOf(left) }),
    ...(right !== undefined && { right: textOf(right) }),
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : show(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `IPPool/p`, as differences name it. */
export function nameOf({ key }: Item): string {
  return keyText(key);
}
