import fc from 'fast-check';
import type { Event } from '../../src/datastore/store.ts';
import { readClusterPolicy } from '../../src/model/kubernetes/cluster-policy.ts';
import { calicoEvent, cluster, labels, selector, set } from './cluster.ts';
import type {
  ClusterNode,
  ClusterPeer,
  ClusterPolicy,
  ClusterPort,
  ClusterRule,
  NamespacedPod,
  PolicyWorld,
} from './cluster-policy-oracle.ts';

/** Clusters with policies of policy.networking.k8s.io, in either version. */

const namespacedPod: fc.Arbitrary<NamespacedPod> = fc.record({ namespaceSelector: selector, podSelector: selector });
const podPeers: fc.Arbitrary<ClusterPeer>[] = [fc.record({ namespaces: selector }), fc.record({ pods: namespacedPod })];
const network = fc.constantFrom('0.0.0.0/0', '10.65.0.0/30', '10.65.0.2/32', '192.0.2.0/24', '::/0', 'fd00::8/125');
const outsidePeers: fc.Arbitrary<ClusterPeer>[] = [
  fc.record({ networks: fc.uniqueArray(network, { minLength: 1, maxLength: 3 }) }),
  fc.record({ nodes: selector }),
];
const keys = fc.subarray(['app', 'constructor', 'example.com/tier']);
const comparing: fc.Arbitrary<ClusterPeer>[] = [
  fc.record({ sameLabels: keys, relatedPods: selector }, { requiredKeys: ['sameLabels'] }),
  fc.record({ notSameLabels: keys, relatedPods: selector }, { requiredKeys: ['notSameLabels'] }),
];
const unknown: fc.Arbitrary<ClusterPeer> = fc.constantFrom({}, { moons: {} });

const protocol = fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const);
const numbered: fc.Arbitrary<ClusterPort>[] = [
  fc.record({ protocol, first: fc.constantFrom(53, 80, 8080) }),
  fc.constant({ protocol: 'TCP' as const, first: 80, last: 90 }),
];
const named: fc.Arbitrary<ClusterPort> = fc.record({ name: fc.constantFrom('web', 'dns') });

function rule(peers: fc.Arbitrary<ClusterPeer>[], ports: fc.Arbitrary<ClusterPort>[]): fc.Arbitrary<ClusterRule> {
  const peer = fc.oneof(...peers.map((arbitrary) => ({ weight: 10, arbitrary })), { weight: 1, arbitrary: unknown });
  return fc.record(
    {
      action: fc.constantFrom('Allow' as const, 'Deny' as const, 'Pass' as const),
      peers: fc.array(peer, { minLength: 1, maxLength: 3 }),
      ports: fc.array(fc.oneof(...ports), { minLength: 1, maxLength: 3 }),
    },
    { requiredKeys: ['action', 'peers'] },
  );
}

const ingress = rule(podPeers, [...numbered, named]);
const egress = fc.oneof(ingress, rule([...podPeers, ...outsidePeers], numbered));

const kinds = fc.constantFrom(
  ...([
    ['AdminNetworkPolicy', 'Admin'],
    ['ClusterNetworkPolicy', 'Admin'],
    ['ClusterNetworkPolicy', 'Baseline'],
    ['BaselineAdminNetworkPolicy', 'Baseline'],
  ] as const),
);

const policies: fc.Arbitrary<ClusterPolicy[]> = fc
  .uniqueArray(
    fc.record({
      kind: kinds,
      priority: fc.nat({ max: 1000 }),
      subject: fc.oneof(fc.record({ namespaces: selector }), fc.record({ pods: namespacedPod })),
      ingress: fc.array(ingress, { maxLength: 3 }),
      egress: fc.array(egress, { maxLength: 3 }),
      related: fc.option(
        fc.record({
          direction: fc.constantFrom('ingress' as const, 'egress' as const),
          rule: rule([...comparing, ...podPeers], [...numbered, named]),
        }),
      ),
    }),
    {
      maxLength: 5,
      // Equal priorities may be taken in any order, and there is one baseline of v1alpha1.
      selector: ({ kind: [kind, tier], priority }) =>
        kind === 'BaselineAdminNetworkPolicy' ? kind : `${tier} ${priority}`,
    },
  )
  .map((list) =>
    list.map(({ kind: [kind, tier], related, ...written }, i) => {
      const compares = related && kind !== 'ClusterNetworkPolicy';
      const policy = compares
        ? { ...written, [related.direction]: [related.rule, ...written[related.direction]] }
        : written;
      return { kind, tier, policy, i };
    }),
  )
  .map((list) =>
    list.map(({ kind, tier, policy, i }) => ({
      ...policy,
      kind,
      tier,
      name: kind === 'BaselineAdminNetworkPolicy' ? 'default' : `policy-${i}`,
      // The baseline of v1alpha1 cannot pass.
      ...(kind === 'BaselineAdminNetworkPolicy' && {
        ingress: policy.ingress.filter(({ action }) => action !== 'Pass'),
        egress: policy.egress.filter(({ action }) => action !== 'Pass'),
      }),
    })),
  );

const nodes: fc.Arbitrary<ClusterNode[]> = fc.record({ one: labels, two: labels }).map(({ one, two }) => [
  { name: 'node-1', labels: one, addresses: ['192.0.2.130', 'fd00::8'] },
  { name: 'node-2', labels: two, addresses: ['10.65.0.200'] },
]);

export const policyWorld: fc.Arbitrary<PolicyWorld> = fc
  .record({ cluster, nodes, clusterPolicies: policies })
  .map(({ cluster: base, ...more }) => ({ ...base, ...more, policies: base.policies.slice(0, 2) }));

/** The object as its author writes it. */
export function clusterPolicyObject(policy: ClusterPolicy): object {
  const { kind, name, tier, priority, subject } = policy;
  const cluster = kind === 'ClusterNetworkPolicy';
  const rules = (list: readonly ClusterRule[], peersName: 'from' | 'to') =>
    list.map(({ action, peers, ports }) => ({
      action: cluster && action === 'Allow' ? 'Accept' : action,
      [peersName]: peers.map(peerObject),
      ...(ports && (cluster ? { protocols: ports.map(clusterPort) } : { ports: ports.map(adminPort) })),
    }));
  return {
    kind,
    apiVersion: `policy.networking.k8s.io/${cluster ? 'v1alpha2' : 'v1alpha1'}`,
    metadata: { name },
    spec: {
      ...(cluster && { tier }),
      ...(kind !== 'BaselineAdminNetworkPolicy' && { priority }),
      subject,
      ingress: rules(policy.ingress, 'from'),
      egress: rules(policy.egress, 'to'),
    },
  };
}

/** Labels that are compared stood where namespaces do, alone or beside a selector of pods. */
function peerObject({ sameLabels, notSameLabels, relatedPods, ...peer }: ClusterPeer): object {
  const namespaces = sameLabels ? { sameLabels } : notSameLabels ? { notSameLabels } : undefined;
  if (!namespaces) return peer;
  return relatedPods ? { pods: { namespaces, podSelector: relatedPods } } : { namespaces };
}

function adminPort({ protocol: of, first, last, name }: ClusterPort): object {
  if (name !== undefined) return { namedPort: name };
  return last === undefined
    ? { portNumber: { protocol: of, port: first } }
    : { portRange: { protocol: of, start: first, end: last } };
}

function clusterPort({ protocol: of = 'TCP', first, last, name }: ClusterPort): object {
  if (name !== undefined) return { destinationNamedPort: name };
  const port = last === undefined ? { number: first } : { range: { start: first, end: last } };
  return { [of.toLowerCase()]: { destinationPort: port } };
}

export function clusterPolicyEvent(policy: ClusterPolicy): Event {
  const { policy: stored } = readClusterPolicy(policy.kind, clusterPolicyObject(policy));
  return set({ type: 'GlobalNetworkPolicy', name: stored.metadata.name }, stored);
}

export function clusterNodeEvent({ name, labels: own, addresses }: ClusterNode): Event {
  return calicoEvent('Node', { name, labels: { ...own } }, { addresses: addresses.map((address) => ({ address })) });
}
