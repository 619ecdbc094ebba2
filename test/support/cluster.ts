import fc from 'fast-check';
import type { Event, Key } from '../../src/datastore/store.ts';
import { keyText } from '../../src/datastore/store.ts';
import { type Kind, parseResource } from '../../src/model/kinds.ts';
import { parseKubernetes } from '../../src/model/kubernetes.ts';
import type { Cluster, Connection, Peer, Pod, Policy } from './oracle.ts';

/** Clusters of a few namespaces, pods and policies whose labels, addresses and ports meet often. */

export const node = 'node-1';
const labelKey = fc.constantFrom('app', 'constructor', 'example.com/tier');
const labelValue = fc.constantFrom('', 'a', 'b');
export const labels = fc.dictionary(labelKey, labelValue, { maxKeys: 3 });

const requirement = fc.oneof(
  fc.record({
    key: labelKey,
    operator: fc.constantFrom('In', 'NotIn'),
    values: fc.uniqueArray(labelValue, { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ key: labelKey, operator: fc.constantFrom('Exists', 'DoesNotExist') }),
);
export const selector = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: fc.record({ matchLabels: labels }) },
  {
    weight: 2,
    arbitrary: fc.record({ matchLabels: labels, matchExpressions: fc.array(requirement, { maxLength: 2 }) }),
  },
);

const ipBlock = fc.oneof(
  fc.record({
    cidr: fc.constantFrom('0.0.0.0/0', '10.0.0.0/8', '10.65.0.0/30', '10.65.0.2/32', '192.0.2.0/24'),
  }),
  fc.constantFrom<NonNullable<Peer['ipBlock']>>(
    { cidr: '0.0.0.0/0', except: ['10.65.0.0/30'] },
    { cidr: '0.0.0.0/0', except: ['10.65.0.2/32', '192.0.2.0/25'] },
    { cidr: '::/0', except: ['fd00::2/127', 'fd00::8/128'] },
    { cidr: 'fd00::/16' },
  ),
);
const peer: fc.Arbitrary<Peer> = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock }),
);
const port = fc.oneof(
  fc.record({ protocol: fc.constantFrom('TCP', 'UDP', 'SCTP') }),
  fc.constant({}),
  fc.record({ port: fc.constantFrom<number | string>(80, 8080, 'web', 'dns') }),
  fc.record({ protocol: fc.constantFrom('TCP', 'UDP'), port: fc.constantFrom<number | string>(53, 80, 'web', 'dns') }),
  fc.constant({ protocol: 'TCP', port: 80, endPort: 90 }),
);
const peers = fc.array(peer, { maxLength: 3 });
const ports = fc.array(port, { maxLength: 3 });
const rules = <K extends string>(name: K) =>
  fc.array(
    fc.record({ [name]: peers, ports }, { requiredKeys: [] }) as fc.Arbitrary<
      { [P in K]?: Peer[] } & { ports?: object[] }
    >,
    { maxLength: 3 },
  );
const namespaceNames = ['one', 'two', 'three'] as const;

const policies: fc.Arbitrary<Policy[]> = fc
  .array(
    fc.record({
      namespace: fc.constantFrom(...namespaceNames),
      spec: fc.record(
        {
          podSelector: selector,
          policyTypes: fc.uniqueArray(fc.constantFrom('Ingress' as const, 'Egress' as const)),
          ingress: rules('from'),
          egress: rules('to'),
        },
        { requiredKeys: ['podSelector'] },
      ),
    }),
    { maxLength: 5 },
  )
  .map((list) => list.map((policy, i) => ({ ...policy, name: `policy-${i}` })));

const podPorts = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('web', 'dns'),
    protocol: fc.constantFrom('TCP', 'UDP'),
    port: fc.constantFrom(53, 80, 8080),
  }),
  { maxLength: 3, selector: ({ name, protocol }) => `${name}/${protocol}` },
);
const pods: fc.Arbitrary<Pod[]> = fc
  .array(fc.record({ namespace: fc.constantFrom(...namespaceNames), labels, ports: podPorts }), {
    minLength: 2,
    maxLength: 5,
  })
  .map((list) =>
    list.map((pod, i) => ({ ...pod, name: `pod-${i}`, addresses: [`10.65.0.${i + 1}`, `fd00::${i + 1}`] })),
  );

export const cluster: fc.Arbitrary<Cluster> = fc.record({
  namespaces: fc.record({ one: labels, two: labels, three: labels }),
  pods,
  policies,
});

/** Connections between all pods, and with addresses outside the cluster. */
export function connections({ pods: list }: Cluster): Connection[] {
  const addresses = [...list.flatMap((pod) => pod.addresses), '10.65.0.200', '192.0.2.130', 'fd00::8'];
  const kinds = [
    { protocol: 'ICMP' as const },
    ...(['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) => [53, 80, 85, 8080].map((port) => ({ protocol, port }))),
  ];
  return addresses.flatMap((source) =>
    addresses
      .filter((destination) => source.includes(':') === destination.includes(':'))
      .flatMap((destination) => kinds.map((kind) => ({ source, destination, ...kind }))),
  );
}

export function set(key: Key, value: unknown): Event {
  return { op: 'set', entry: { key, value, revision: '1' } as Extract<Event, { op: 'set' }>['entry'] };
}

export function namespaceEvent(name: string, namespaceLabels: Readonly<Record<string, string>>): Event {
  const profile = parseKubernetes({ kind: 'Namespace', apiVersion: 'v1', metadata: { name, labels: namespaceLabels } });
  return set({ type: 'Profile', name: profile.metadata.name }, profile);
}

export function policyEvent({ name, namespace, spec }: Policy): Event {
  const policy = parseKubernetes({
    kind: 'NetworkPolicy',
    apiVersion: 'networking.k8s.io/v1',
    metadata: { name, namespace },
    spec,
  });
  return set({ type: 'NetworkPolicy', namespace, name: policy.metadata.name }, policy);
}

/** A policy in the terms of `projectcalico.org/v3`. */
export function calicoPolicyEvent(name: string, namespace: string, spec: object): Event {
  const policy = parseResource('NetworkPolicy', {
    kind: 'NetworkPolicy',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, namespace },
    spec,
  });
  return set({ type: 'NetworkPolicy', namespace, name }, policy);
}

/** Any object of `projectcalico.org/v3`. */
export function calicoEvent(
  kind: Exclude<Kind, 'WorkloadEndpoint'>,
  metadata: { name: string; namespace?: string; labels?: Record<string, string> },
  spec: object,
): Event {
  const value = parseResource(kind, { kind, apiVersion: 'projectcalico.org/v3', metadata, spec });
  const { name, namespace } = metadata;
  return set({ type: kind, name, ...(namespace !== undefined && { namespace }) }, value);
}

/** The EndpointSlice of a service, as Kubernetes has it. */
export function sliceEvent(
  namespace: string,
  serviceName: string,
  addresses: readonly string[],
  slicePorts: readonly { name?: string; protocol?: string; port: number }[],
  name = serviceName,
): Event {
  const value = parseKubernetes({
    kind: 'EndpointSlice',
    apiVersion: 'discovery.k8s.io/v1',
    metadata: { name, namespace, labels: { 'kubernetes.io/service-name': serviceName } },
    addressType: addresses.some((address) => address.includes(':')) ? 'IPv6' : 'IPv4',
    endpoints: addresses.map((address) => ({ addresses: [address] })),
    ports: slicePorts,
  });
  return set({ type: 'EndpointSlice', namespace, name }, value);
}

/** A v1 Service. */
export function serviceEvent(namespace: string, name: string, spec: object): Event {
  const value = parseKubernetes({ kind: 'Service', apiVersion: 'v1', metadata: { name, namespace }, spec });
  return set({ type: 'Service', namespace, name }, value);
}

export function endpointKey(pod: Pick<Pod, 'name' | 'namespace'>): Key<'WorkloadEndpoint'> {
  return { type: 'WorkloadEndpoint', namespace: pod.namespace, name: `node--1-k8s-${pod.name}-eth0` };
}

export function endpointText(pod: Pick<Pod, 'name' | 'namespace'>): string {
  return keyText(endpointKey(pod));
}

export function endpointEvent(pod: Pod, where = node, interfaceName = `cali${pod.name}`): Event {
  const key = endpointKey(pod);
  const value = parseResource('WorkloadEndpoint', {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: key.name, namespace: pod.namespace, labels: pod.labels },
    spec: {
      orchestrator: 'k8s',
      node: where,
      endpoint: 'eth0',
      pod: pod.name,
      ipNetworks: pod.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`),
      profiles: [`kns.${pod.namespace}`, ...(pod.account ? [`ksa.${pod.namespace}.${pod.account}`] : [])],
      ...(pod.account && { serviceAccountName: pod.account }),
      interfaceName,
      ports: pod.ports,
    },
  });
  return set(key, value);
}

/** Everything of a cluster, pods on this node but for every third one. */
export function clusterEvents({ namespaces, pods: list, policies: all }: Cluster): Event[] {
  return [
    ...Object.entries(namespaces).map(([name, own]) => namespaceEvent(name, own)),
    ...list.map((pod, i) => endpointEvent(pod, i % 3 === 2 ? 'node-2' : node)),
    ...all.map(policyEvent),
  ];
}

export function keyOf(event: Event): Key {
  return event.op === 'delete' ? event.key : event.entry.key;
}
