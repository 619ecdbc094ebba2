import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseIp } from '../../../src/model/address.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { answer } from '../../../src/policy/question.ts';
import { calicoEvent, endpointEvent, endpointText, namespaceEvent, node, set } from '../../support/cluster.ts';

/* sameLabels and notSameLabels of AdminNetworkPolicy: what a rule means differs from pod to pod. */

const log = createLog('test', 'silent');
const teams = { one: 'a', two: 'a', three: 'b' };
const pods = Object.keys(teams).map((namespace, i) => ({
  name: namespace,
  namespace,
  labels: {},
  addresses: [`10.0.0.${i + 1}`],
  ports: [],
}));
const addresses = { one: '10.0.0.1', two: '10.0.0.2', three: '10.0.0.3' };

function policyEvent(ingress: object[]): Event {
  const stored = parseKubernetes({
    kind: 'AdminNetworkPolicy',
    apiVersion: 'policy.networking.k8s.io/v1alpha1',
    metadata: { name: 'teams' },
    spec: { priority: 1, subject: { namespaces: {} }, ingress },
  });
  return set({ type: 'GlobalNetworkPolicy', name: stored.metadata.name }, stored as never);
}

const strangers = policyEvent([
  { action: 'Allow', from: [{ namespaces: { sameLabels: ['team'] } }] },
  { action: 'Deny', from: [{ namespaces: { notSameLabels: ['team'] } }] },
]);

function indexOf(...events: Event[]): PolicyIndex {
  const index = new PolicyIndex(node, log);
  const base = Object.entries(teams).map(([name, team]) => namespaceEvent(name, { team }));
  for (const event of [...base, ...pods.map((pod) => endpointEvent(pod)), ...events]) index.apply(event);
  return index;
}

/** `one>two` for every pair that may talk. */
function pairs(index: PolicyIndex): string {
  const policy = index.snapshot();
  return pods
    .flatMap((to) =>
      pods
        .filter((from) => {
          const [source, destination] = [from, to].map(({ addresses: [address = ''] }) => parseIp(address));
          if (from === to || !source || !destination) return false;
          const packet = {
            endpoint: endpointText(to),
            direction: 'ingress' as const,
            source,
            destination,
            protocol: 6,
          };
          return evaluate(policy, packet).verdict === 'allow';
        })
        .map((from) => `${from.namespace}>${to.namespace}`),
    )
    .join(' ');
}

test('each pod is compared with its own namespace, and pods of equal values share chains', () => {
  const index = indexOf(strangers);
  expect(pairs(index)).toBe('two>one one>two');
  const { endpoints, policies } = index.snapshot();
  const names = pods.map((pod) => endpoints.get(endpointText(pod))?.tiers[0]?.ingress);
  expect(names[0]).toEqual(names[1]);
  expect(names[2]).not.toEqual(names[1]);
  expect([...policies.values()].map(({ title }) => title)).toEqual(Array(2).fill('AdminNetworkPolicy teams'));
});

test('labels that change, pods that go and the policy itself leave nothing behind', () => {
  const index = indexOf(strangers);
  index.apply(namespaceEvent('two', { team: 'b' }));
  expect(pairs(index)).toBe('three>two two>three');
  index.apply(namespaceEvent('two', {}));
  // Without the label a namespace is neither the same nor another for others, and all that have it are others to it.
  expect(pairs(index)).toBe('two>one two>three');
  for (const pod of pods.slice(1)) {
    const { entry } = endpointEvent(pod) as Extract<Event, { op: 'set' }>;
    index.apply({ op: 'delete', key: entry.key });
  }
  expect(index.snapshot().policies.size).toBe(1);
  index.apply({ op: 'delete', key: { type: 'GlobalNetworkPolicy', name: 'kanp.teams' } });
  expect([index.snapshot().policies.size, index.snapshot().sets.size]).toEqual([0, 0]);
});

test('a policy that compares no longer, or anew, replaces what was', () => {
  const index = indexOf(strangers, policyEvent([{ action: 'Deny', from: [{ namespaces: {} }] }]));
  expect(pairs(index)).toBe('');
  expect([...index.snapshot().policies.keys()]).toEqual(['kanp.teams']);
  index.apply(policyEvent([{ action: 'Deny', from: [{ namespaces: { sameLabels: ['team'] } }] }]));
  expect(pairs(index)).toBe('three>one three>two one>three two>three');
  index.apply(strangers);
  expect(pairs(index)).toBe('two>one one>two');
});

test('a value that cannot be written into a selector closes its rule and opens none', () => {
  const index = indexOf(
    calicoEvent(
      'Profile',
      { name: 'kns.one' },
      { labelsToApply: { 'pcns.team': `'"`, 'pcns.projectcalico.org/name': 'one' } },
    ),
    strangers,
  );
  expect(pairs(index)).toBe('');
  expect([...new Set(index.problems().map(({ key }) => key))]).toEqual(['GlobalNetworkPolicy/kanp.teams']);
});

test('explain names the policy and the rule as written', () => {
  const found = answer(
    [
      ...Object.entries(teams).map(([name, team]) => namespaceEvent(name, { team })),
      ...pods.map((pod) => endpointEvent(pod)),
      strangers,
    ],
    {
      source: { address: parseIp(addresses.three) },
      destination: { namespace: 'one', pod: 'one' },
      transport: { protocol: 'tcp', port: 80 },
    },
    log,
  );
  expect(found.destination.trace).toMatchObject({
    verdict: 'deny',
    reason: { by: 'policy', tier: 'kube-admin', rule: 1 },
    tiers: [{ policies: [{ policy: 'AdminNetworkPolicy teams' }] }],
  });
});
