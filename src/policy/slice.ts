import { InputError } from '../base/errors.ts';
import { type Event, type Key, keyText, type Type } from '../datastore/store.ts';
import { type Cidr, contains, hostCidr, type Ip, parseIp } from '../model/address.ts';
import type { EndpointSlice, HostEndpoint, Node, Profile, WorkloadEndpoint } from '../model/kinds.ts';
import { parseSelector, type Selector } from '../model/selector.ts';
import { effectiveLabels, endpointOf, hostEndpointOf, type Labelled } from './endpoint.ts';
import type { LabelMap } from './labels.ts';
import { networkSetOf } from './network-set.ts';
import { nodeOf } from './node.ts';
import { type AnyPolicy, scopeSelector } from './scope.ts';
import { serviceEndpointsOf } from './service.ts';

/** The one node of a slice: verdicts do not depend on where an endpoint runs. */
export const sliceNode = 'here';

/**
 * The part of a cluster that a verdict on packets between the addresses depends on: endpoints, network sets,
 * nodes and EndpointSlices that hold one of them, their profiles, and the policies that select such an endpoint. All endpoints are put on one node.
 * Work is one pass over the objects, without compiling what does not count.
 * @param host a host endpoint that is asked instead of the endpoints; it is put on the node, too, under a device
 */
export function slice(cluster: readonly Event[], addresses: readonly Ip[], host?: Event): Event[] {
  const byType = Map.groupBy(cluster, (event) => keyOf(event).type);
  const of = (...types: readonly Type[]) => types.flatMap((type) => byType.get(type) ?? []);
  const nets = addresses.map(hostCidr);
  const others = of(
    'WorkloadEndpoint',
    'HostEndpoint',
    'Node',
    'EndpointSlice',
    'NetworkSet',
    'GlobalNetworkSet',
  ).filter((event) => event !== host && holdsAny(event, addresses, nets));
  const holders = host ? [host, ...others] : others;
  const profiles = new Set(holders.flatMap((event) => labelledOf(event)?.profiles ?? []));
  const known = new Map<string, LabelMap>();
  const inherited = of('Profile').filter((event) => profiles.has(nameOf(keyOf(event))));
  for (const event of inherited)
    if (event.op === 'set' && event.entry.key.type === 'Profile')
      known.set(event.entry.key.name, new Map(Object.entries((event.entry.value as Profile).spec.labelsToApply ?? {})));
  const labels = (host ? [host] : holders.filter((event) => keyOf(event).type === 'WorkloadEndpoint'))
    .flatMap((event) => labelledOf(event) ?? [])
    .map((each) => effectiveLabels(each, (profile) => known.get(profile)));
  const selects = selection(labels);
  const policies = of('NetworkPolicy', 'GlobalNetworkPolicy').filter((event) =>
    selects(event, namespaceOf(keyOf(event))),
  );
  return [
    ...holders.map((event) => (event === host ? onDevice(event) : moved(event))),
    ...of('Tier'),
    ...inherited,
    ...policies,
  ];
}

function keyOf(event: Event): Key {
  return event.op === 'delete' ? event.key : event.entry.key;
}

function nameOf(key: Key): string {
  return 'name' in key ? key.name : '';
}

function namespaceOf(key: Key): string | undefined {
  return 'namespace' in key ? key.namespace : undefined;
}

/** @param hosts the addresses as prefixes */
function holdsAny(event: Event, addresses: readonly Ip[], hosts: readonly Cidr[]): boolean {
  const { type } = keyOf(event);
  if (event.op === 'set' && type === 'WorkloadEndpoint') {
    const { ipNetworks } = (event.entry.value as WorkloadEndpoint).spec;
    return hosts.some((host) => ipNetworks.includes(host));
  }
  if (event.op === 'set' && type === 'HostEndpoint') {
    const { expectedIPs } = (event.entry.value as HostEndpoint).spec;
    return expectedIPs.some((ip) => hosts.includes(hostCidr(parseIp(ip))));
  }
  if (event.op === 'set' && (type === 'Node' || type === 'EndpointSlice')) {
    const { value } = event.entry;
    const { facts } = type === 'Node' ? nodeOf(value as Node) : serviceEndpointsOf(value as EndpointSlice);
    return hosts.some((host) => facts.addresses.includes(host));
  }
  if (type !== 'NetworkSet' && type !== 'GlobalNetworkSet') return false;
  const nets = labelledOf(event)?.facts.addresses ?? [];
  return nets.some((net: Cidr) => addresses.some((address) => contains(net, address)));
}

function labelledOf(event: Event): Labelled | undefined {
  if (event.op === 'delete') return undefined;
  const { key, value } = event.entry;
  switch (key.type) {
    case 'WorkloadEndpoint':
      return event.op === 'set' ? endpointOf(keyText(key), value as WorkloadEndpoint) : undefined;
    case 'HostEndpoint':
      return event.op === 'set' ? hostEndpointOf(keyText(key), value as HostEndpoint) : undefined;
    case 'NetworkSet':
    case 'GlobalNetworkSet':
      return networkSetOf(keyText(key), key, value);
    default:
      return undefined;
  }
}

/** Whether a policy selects any of the labels; one that cannot be read may. Equal selectors are tried once. */
function selection(labels: readonly LabelMap[]): (event: Event, namespace: string | undefined) => boolean {
  const known = new Map<string, boolean>();
  return (event, namespace) => {
    if (event.op !== 'set') return event.op === 'invalid';
    if (namespace !== undefined && !labels.some((each) => each.get('projectcalico.org/namespace') === namespace))
      return false;
    const { selector, serviceAccountSelector, ...spec } = (event.entry.value as AnyPolicy).spec;
    const scope = { namespace, selector, serviceAccountSelector, namespaceSelector: spec['namespaceSelector'] };
    const text = JSON.stringify(scope);
    const before = known.get(text);
    if (before !== undefined) return before;
    const found = scopeSelector(scope, 'spec', readable);
    const result = labels.some((each) => found.matches(each));
    known.set(text, result);
    return result;
  };
}

function readable(part: () => Selector): Selector {
  try {
    return part();
  } catch (thrown) {
    if (thrown instanceof InputError) return parseSelector('all()');
    throw thrown;
  }
}

/** Whatever its device is, it is asked as having one. */
export function onDevice(event: Event): Event {
  if (event.op !== 'set') return event;
  const value = event.entry.value as HostEndpoint;
  const spec = { ...value.spec, node: sliceNode, interfaceName: 'host' };
  return { op: 'set', entry: { ...event.entry, value: { ...value, spec } } };
}

/** A pod runs on the node of the slice. */
export function moved(event: Event): Event {
  if (event.op !== 'set' || event.entry.key.type !== 'WorkloadEndpoint') return event;
  const value = event.entry.value as WorkloadEndpoint;
  return { op: 'set', entry: { ...event.entry, value: { ...value, spec: { ...value.spec, node: sliceNode } } } };
}
