import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import type { SetId } from '../../../src/policy/ir.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import {
  calicoPolicyEvent,
  endpointEvent,
  endpointKey,
  endpointText,
  keyOf,
  namespaceEvent,
  node,
  policyEvent,
} from '../../support/cluster.ts';
import type { Pod, Policy } from '../../support/oracle.ts';

const log = createLog('test', 'silent');

function pod(name: string, address: string, more: Partial<Pod> = {}): Pod {
  return { name, namespace: 'one', labels: { app: name }, addresses: [address], ports: [], ...more };
}

const web = pod('web', '10.0.0.1', { ports: [{ name: 'http', protocol: 'TCP', port: 8080 }] });
const db = pod('db', '10.0.0.2', { ports: [{ name: 'http', protocol: 'TCP', port: 9090 }] });
const alien = pod('alien', '10.0.0.3', { namespace: 'two' });
const world: Event[] = [
  namespaceEvent('one', { team: 'a' }),
  namespaceEvent('two', {}),
  ...[web, db, alien].map((each) => endpointEvent(each)),
];

function indexOf(...events: Event[]): PolicyIndex {
  const index = new PolicyIndex(node, log);
  for (const event of [...world, ...events]) index.apply(event);
  return index;
}

function kubernetes(spec: Policy['spec'], name = 'k', namespace = 'one'): Event {
  return policyEvent({ name, namespace, spec });
}

/** Whether `from` may open TCP to `to`, at the end that `direction` says. */
function tcp(index: PolicyIndex, direction: 'ingress' | 'egress', from: Pod, to: Pod, destinationPort = 80) {
  const address = (of: Pod) => parseIp(of.addresses[0] ?? '');
  const endpoint = endpointText(direction === 'ingress' ? to : from);
  const ends = { source: address(from), destination: address(to) };
  return evaluate(index.snapshot(), { ...ends, endpoint, direction, protocol: 6, sourcePort: 40_000, destinationPort });
}

describe('where engines commonly go wrong', () => {
  test('a Kubernetes policy of egress rules alone isolates ingress too; one of Calico does not', () => {
    const kube = indexOf(kubernetes({ podSelector: {}, egress: [{}] }));
    expect(tcp(kube, 'ingress', db, web)).toMatchObject({ verdict: 'deny', reason: { by: 'tierDefault' } });
    expect(tcp(kube, 'egress', db, web).verdict).toBe('allow');
    const calico = indexOf(calicoPolicyEvent('c', 'one', { egress: [{ action: 'Allow' }] }));
    expect(tcp(calico, 'ingress', db, web)).toMatchObject({ verdict: 'allow', reason: { by: 'profile' } });
  });

  test('a policy of Calico without types and rules isolates ingress', () => {
    const index = indexOf(calicoPolicyEvent('c', 'one', {}));
    expect(tcp(index, 'ingress', db, web).verdict).toBe('deny');
    expect(tcp(index, 'egress', web, db).verdict).toBe('allow');
  });

  test('a named port is what the destination calls so', () => {
    const index = indexOf(
      kubernetes({ podSelector: {}, policyTypes: ['Egress'], egress: [{ ports: [{ port: 'http' }] }] }),
    );
    expect(tcp(index, 'egress', web, db, 9090).verdict).toBe('allow');
    expect(tcp(index, 'egress', web, db, 8080).verdict).toBe('deny');
    expect(tcp(index, 'egress', db, web, 8080).verdict).toBe('allow');
  });

  test('NotIn and != match an absent label', () => {
    const notIn = { matchExpressions: [{ key: 'none', operator: 'NotIn', values: ['x'] }] };
    const kube = indexOf(kubernetes({ podSelector: {}, ingress: [{ from: [{ podSelector: notIn }] }] }));
    expect(tcp(kube, 'ingress', db, web).verdict).toBe('allow');
    const rule = { action: 'Allow', source: { selector: "none != 'x'" } };
    const calico = indexOf(calicoPolicyEvent('c', 'one', { ingress: [rule] }));
    expect(tcp(calico, 'ingress', db, web).verdict).toBe('allow');
  });

  test('selectors stay in the namespace of the policy unless a namespaceSelector leads out', () => {
    const source = { selector: 'all()' };
    const inside = indexOf(calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Allow', source }] }));
    expect(tcp(inside, 'ingress', db, web).verdict).toBe('allow');
    expect(tcp(inside, 'ingress', alien, web).verdict).toBe('deny');
    expect(tcp(inside, 'ingress', web, alien).verdict).toBe('allow');
    const out = { namespaceSelector: "projectcalico.org/name == 'two'" };
    const outside = indexOf(calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Allow', source: out }] }));
    expect(tcp(outside, 'ingress', alien, web).verdict).toBe('allow');
    expect(tcp(outside, 'ingress', db, web).verdict).toBe('deny');
    const global = { namespaceSelector: 'global()' };
    const none = indexOf(calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Allow', source: global }] }));
    expect(tcp(none, 'ingress', alien, web).verdict).toBe('deny');
  });

  test('Kubernetes policies stand at order 1000: one of Calico goes before or after', () => {
    const allow = kubernetes({ podSelector: {}, ingress: [{}] });
    const deny = (order?: number) =>
      calicoPolicyEvent('c', 'one', { types: ['Ingress'], ingress: [{ action: 'Deny' }], ...(order && { order }) });
    expect(tcp(indexOf(allow, deny(999)), 'ingress', db, web)).toMatchObject({
      verdict: 'deny',
      reason: { by: 'policy', tier: 'default', policy: 'one/c', rule: 0 },
    });
    expect(tcp(indexOf(allow, deny(1001)), 'ingress', db, web).verdict).toBe('allow');
    expect(tcp(indexOf(allow, deny()), 'ingress', db, web).verdict).toBe('allow');
  });

  test('a pod cannot claim the labels of another namespace', () => {
    const forged = { ...alien, labels: { 'pcns.team': 'a', 'projectcalico.org/namespace': 'one' } };
    const source = { namespaceSelector: "team == 'a'" };
    const index = indexOf(
      endpointEvent(forged),
      calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Allow', source }] }),
    );
    expect(tcp(index, 'ingress', forged, web).verdict).toBe('deny');
  });

  test('pass goes on to the profiles, and a tier that passes by default does not isolate', () => {
    const pass = indexOf(calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Pass' }] }));
    expect(tcp(pass, 'ingress', db, web)).toMatchObject({
      verdict: 'allow',
      reason: { by: 'profile', policy: 'kns.one' },
      passed: [{ policy: 'one/c', action: 'pass' }],
    });
    const admin = { tier: 'kube-admin', ingress: [{ action: 'Deny', source: { selector: "app == 'db'" } }] };
    const tiers = indexOf(calicoPolicyEvent('c', 'one', admin), kubernetes({ podSelector: {}, ingress: [{}] }));
    expect(tcp(tiers, 'ingress', db, web)).toMatchObject({ verdict: 'deny', reason: { tier: 'kube-admin' } });
    expect(tcp(tiers, 'ingress', web, web)).toMatchObject({ verdict: 'allow', reason: { tier: 'default' } });
  });

  test('a missing profile denies', () => {
    const index = indexOf({ op: 'delete', key: { type: 'Profile', name: 'kns.one' } });
    expect(tcp(index, 'ingress', db, web)).toMatchObject({
      verdict: 'deny',
      reason: { by: 'missingProfile', profile: 'kns.one' },
    });
  });
});

describe('an invalid policy never opens what it meant to close', () => {
  const allowAll = kubernetes({ podSelector: {}, ingress: [{}] });
  const allow = { action: 'Allow' };
  const bad = { source: { nets: ['10.0.0.0/33'] } };
  const source = { selector: "app == 'db'" };

  test.each<[string, object, string, 'allow' | 'deny']>([
    [
      'an allow that cannot be read admits nothing',
      { ingress: [{ ...allow, ...bad }] },
      'ingress[0].source.nets[0]',
      'deny',
    ],
    [
      'the valid allow beside it still does',
      {
        ingress: [
          { ...allow, ...bad },
          { ...allow, source },
        ],
      },
      'ingress[0]',
      'allow',
    ],
    [
      'what comes before a broken deny counts',
      {
        ingress: [
          { ...allow, source },
          { action: 'Deny', ...bad },
        ],
      },
      'ingress[1]',
      'allow',
    ],
    ['after a broken deny nothing is admitted', { ingress: [{ action: 'Deny', ...bad }, allow] }, 'ingress[0]', 'deny'],
    ['nor after a broken pass', { ingress: [{ action: 'Pass', ...bad }, allow] }, 'ingress[0]', 'deny'],
    ['a broken selector isolates', { selector: 'app =', ingress: [allow] }, 'spec.selector', 'deny'],
    ['a tier that does not exist isolates', { tier: 'mine', ingress: [allow] }, 'spec.tier', 'deny'],
    [
      'ports need a protocol',
      { ingress: [{ ...allow, destination: { ports: [80] } }] },
      'destination.ports[0]',
      'deny',
    ],
    ['protocol 0 means any to iptables', { ingress: [{ ...allow, protocol: 0 }] }, 'protocol', 'deny'],
    [
      'a range upside down',
      { ingress: [{ ...allow, protocol: 'TCP', destination: { ports: ['90:80'] } }] },
      'ports[0]',
      'deny',
    ],
    ['ICMP of another protocol', { ingress: [{ ...allow, protocol: 'TCP', icmp: { type: 8 } }] }, 'icmp', 'deny'],
    [
      'an ICMP code without type',
      { ingress: [{ ...allow, protocol: 'ICMP', icmp: { code: 8 } }] },
      'icmp.type',
      'deny',
    ],
    ['a family that contradicts', { ingress: [{ ...allow, protocol: 'ICMP', ipVersion: 6 }] }, 'ipVersion', 'deny'],
  ])('%s', (_, spec, field, verdict) => {
    const index = indexOf(calicoPolicyEvent('c', 'one', spec));
    expect(tcp(index, 'ingress', db, web).verdict).toBe(verdict);
    expect(index.problems()).toEqual([
      {
        key: 'NetworkPolicy/one/c',
        error: expect.objectContaining({ name: 'InputError', field: expect.stringContaining(field) }),
      },
    ]);
    index.apply(calicoPolicyEvent('c', 'one', { ingress: [allow] }));
    expect(index.problems()).toEqual([]);
  });

  test.each([
    ['of Calico: nothing beside it counts', 'c', 'deny'],
    ['of Kubernetes, which only ever allows: others may allow', 'knp.default.c', 'allow'],
  ])('a policy that cannot be read, %s', (_, name, verdict) => {
    const key = { type: 'NetworkPolicy', namespace: 'one', name } as const;
    const unreadable: Event = { op: 'invalid', entry: { key, error: new Error('not JSON') } };
    expect(tcp(indexOf(unreadable, allowAll), 'ingress', db, web).verdict).toBe(verdict);
    expect(tcp(indexOf(unreadable), 'ingress', db, web).verdict).toBe('deny');
    expect(tcp(indexOf(unreadable), 'egress', web, db).verdict).toBe('deny');
    expect(tcp(indexOf(unreadable), 'ingress', web, alien).verdict).toBe('allow');
    expect(indexOf(unreadable).problems()).toHaveLength(1);
    expect(indexOf(unreadable, { op: 'delete', key }).problems()).toEqual([]);
  });
});

describe('incremental', () => {
  const fromDb = kubernetes(
    { podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { app: 'db' } } }] }] },
    'a',
  );
  const fromAll = kubernetes({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }, 'b');
  const members = (index: PolicyIndex) => [...index.snapshot().sets.values()].map((set) => [...set.members].sort());

  test('a label change touches only the sets that the pod joins or leaves', () => {
    const index = indexOf(fromDb, fromAll);
    const before = index.snapshot();
    expect(members(index)).toEqual([['10.0.0.2/32'], ['10.0.0.1/32', '10.0.0.2/32']]);
    index.apply(endpointEvent({ ...web, labels: { app: 'db' } }));
    const after = index.snapshot();
    expect(members(index)).toEqual([
      ['10.0.0.1/32', '10.0.0.2/32'],
      ['10.0.0.1/32', '10.0.0.2/32'],
    ]);
    const [first, second] = [...before.sets.keys()] as [SetId, SetId];
    expect(after.sets.get(first)).not.toBe(before.sets.get(first));
    expect(after.sets.get(second)).toBe(before.sets.get(second));
    expect(after.endpoints).toBe(before.endpoints);
    expect(after.policies).toBe(before.policies);
  });

  test('two endpoints may share an address while one replaces the other', () => {
    const index = indexOf(fromAll, endpointEvent({ ...db, name: 'db-2' }));
    index.apply({ op: 'delete', key: endpointKey(db) });
    expect(members(index)).toEqual([['10.0.0.1/32', '10.0.0.2/32']]);
    index.apply({ op: 'delete', key: endpointKey({ ...db, name: 'db-2' }) });
    expect(members(index)).toEqual([['10.0.0.1/32']]);
  });

  test('only what local endpoints refer to is kept', () => {
    const index = indexOf(
      fromDb,
      kubernetes({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }, 'c', 'three'),
    );
    expect([...index.snapshot().policies.keys()]).toEqual(['one/knp.default.a']);
    for (const event of world) index.apply({ op: 'delete', key: keyOf(event) });
    const empty = index.snapshot();
    expect([empty.endpoints, empty.policies, empty.profiles, empty.sets].map(({ size }) => size)).toEqual([0, 0, 0, 0]);
  });

  test('a pod that moves to another node is no longer ours but stays in sets', () => {
    const index = indexOf(fromAll, endpointEvent(db, 'node-2'));
    expect([...index.snapshot().endpoints.keys()].sort()).toEqual([endpointText(alien), endpointText(web)].sort());
    expect(members(index)).toEqual([['10.0.0.1/32', '10.0.0.2/32']]);
  });

  test('a namespace that gains a label moves its pods', () => {
    const peer = { namespaceSelector: { matchLabels: { team: 'b' } } };
    const index = indexOf(kubernetes({ podSelector: {}, ingress: [{ from: [peer] }] }));
    expect(members(index)).toEqual([[]]);
    index.apply(namespaceEvent('two', { team: 'b' }));
    expect(members(index)).toEqual([['10.0.0.3/32']]);
  });
});

test('two endpoints that claim one interface are a problem of both', () => {
  const index = indexOf(endpointEvent(db, node, 'caliweb'));
  expect(index.problems().map(({ key }) => key)).toEqual([endpointText(web), endpointText(db)]);
});

test('an endpoint that cannot be read is unknown', () => {
  const index = indexOf({ op: 'invalid', entry: { key: endpointKey(web), error: new Error('not JSON') } });
  expect(tcp(index, 'ingress', db, web)).toMatchObject({ verdict: 'deny', reason: { by: 'unknownEndpoint' } });
  expect(index.problems()).toHaveLength(1);
});
