import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import type { Event, Key } from '../../../src/datastore/store.ts';
import { parseIp } from '../../../src/model/address.ts';
import { parseResource, resourceProblems } from '../../../src/model/kinds.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import {
  calicoEvent,
  calicoPolicyEvent,
  endpointEvent,
  endpointText,
  namespaceEvent,
  node,
} from '../../support/cluster.ts';
import type { Pod } from '../../support/oracle.ts';

/* Tiers, global policies, network sets and service accounts. */

const log = createLog('test', 'silent');

function pod(name: string, address: string, namespace = 'one'): Pod {
  return { name, namespace, labels: { app: name }, addresses: [address], ports: [] };
}

const web = pod('web', '10.0.0.1');
const db = pod('db', '10.0.0.2');
const alien = pod('alien', '10.0.0.3', 'two');

/** The pod with a service account, whose labels its profile gives. */
function withAccount(of: Pod, account: string): Event {
  const event = endpointEvent(of);
  if (event.op !== 'set') throw new TypeError('no endpoint');
  const value = event.entry.value as { spec: { profiles: string[] } };
  const spec = {
    ...value.spec,
    serviceAccountName: account,
    profiles: [...value.spec.profiles, `ksa.${of.namespace}.${account}`],
  };
  return { op: 'set', entry: { ...event.entry, value: { ...value, spec } } } as Event;
}

function indexOf(...events: Event[]): PolicyIndex {
  const index = new PolicyIndex(node, log);
  const world = [
    namespaceEvent('one', { team: 'a' }),
    namespaceEvent('two', { team: 'b' }),
    ...[web, db, alien].map((each) => endpointEvent(each)),
  ];
  for (const event of [...world, ...events]) index.apply(event);
  return index;
}

function verdict(index: PolicyIndex, source: string, to: Pod, direction: 'ingress' | 'egress' = 'ingress') {
  const [from, destination] = direction === 'ingress' ? [source, to.addresses[0]] : [to.addresses[0], source];
  return evaluate(index.snapshot(), {
    endpoint: endpointText(to),
    direction,
    source: parseIp(from ?? ''),
    destination: parseIp(destination ?? ''),
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 80,
  });
}

const denyAll = { types: ['Ingress'], ingress: [{ action: 'Deny' }] };

describe('global policies', () => {
  test('without a namespaceSelector they select pods everywhere, with one those of its namespaces', () => {
    const everywhere = indexOf(calicoEvent('GlobalNetworkPolicy', { name: 'g' }, denyAll));
    expect(verdict(everywhere, '10.0.0.2', web)).toMatchObject({ verdict: 'deny', reason: { policy: 'g', rule: 0 } });
    expect(verdict(everywhere, '10.0.0.2', alien).verdict).toBe('deny');
    const some = indexOf(
      calicoEvent('GlobalNetworkPolicy', { name: 'g' }, { ...denyAll, namespaceSelector: "team == 'b'" }),
    );
    expect(verdict(some, '10.0.0.2', web).verdict).toBe('allow');
    expect(verdict(some, '10.0.0.2', alien).verdict).toBe('deny');
  });

  test('their peers are of every namespace', () => {
    const ingress = [{ action: 'Allow', source: { selector: "app == 'alien'" } }];
    const index = indexOf(calicoEvent('GlobalNetworkPolicy', { name: 'g' }, { ingress }));
    expect(verdict(index, '10.0.0.3', web).verdict).toBe('allow');
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('deny');
  });

  test('those of host endpoints alone select no pod, even when they cannot be read', () => {
    const spec = { preDNAT: true, applyOnForward: true, ingress: [{ action: 'Deny' }] };
    const sound = indexOf(calicoEvent('GlobalNetworkPolicy', { name: 'g' }, spec));
    expect(verdict(sound, '10.0.0.2', web).verdict).toBe('allow');
    expect(sound.snapshot().policies.size).toBe(0);
    const key = { type: 'GlobalNetworkPolicy', name: 'g' } as const;
    const index = indexOf({ op: 'invalid', entry: { key, error: new Error('refused'), value: { spec } } });
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('allow');
  });

  test('of a cluster policy that cannot be read, the subject counts; else pods are isolated, and hosts never', () => {
    const key = { type: 'GlobalNetworkPolicy', name: 'kcnp.a' } as const;
    const invalid = (subject: object) =>
      indexOf({
        op: 'invalid',
        entry: { key, error: new Error('refused'), value: { spec: { subject, priority: 2000, ingress: [{}] } } },
      });
    const others = invalid({ namespaces: { matchLabels: { no: 'such' } } });
    expect(verdict(others, '10.0.0.2', web).verdict).toBe('allow');
    const all = invalid({ moons: {} });
    expect(verdict(all, '10.0.0.2', web).verdict).toBe('deny');
    all.apply(
      calicoEvent(
        'HostEndpoint',
        { name: 'h' },
        { node, interfaceName: '*', profiles: ['projectcalico-default-allow'] },
      ),
    );
    expect(all.snapshot().endpoints.get('HostEndpoint/h')?.tiers).toEqual([]);
  });

  test('problems that an annotation tells are reported', () => {
    const told = (text: string) =>
      indexOf({
        op: 'set',
        entry: {
          key: { type: 'GlobalNetworkPolicy', name: 'g' },
          revision: '1',
          value: parseResource('GlobalNetworkPolicy', {
            kind: 'GlobalNetworkPolicy',
            apiVersion: 'projectcalico.org/v3',
            metadata: { name: 'g', annotations: { 'margay.io/problems': text } },
            spec: {},
          }),
        },
      })
        .problems()
        .map(({ error }) => error.message);
    expect(told('[{"field":"C.spec.x","value":1,"expected":"two"}]')).toEqual(['C.spec.x: 1: expected two']);
    expect(told('no list')).toEqual([expect.stringContaining('margay.io/problems')]);
  });

  test.each([
    [{ preDNAT: true, doNotTrack: true, applyOnForward: true }, ['preDNAT']],
    [{ preDNAT: true }, ['applyOnForward']],
    [{ doNotTrack: true, applyOnForward: false }, ['applyOnForward']],
    [{ preDNAT: true, applyOnForward: true, egress: [{ action: 'Deny' }] }, ['egress']],
    [{ preDNAT: true, applyOnForward: true, types: ['Ingress', 'Egress'] }, ['types']],
    [{ preDNAT: true, applyOnForward: true, types: ['Ingress'], egress: [] }, []],
    [{ doNotTrack: true, applyOnForward: true, egress: [{ action: 'Deny' }] }, []],
    [{ doNotTrack: false, preDNAT: false }, []],
  ])('%j of host endpoints is checked as a whole', (spec, fields) => {
    for (const kind of ['GlobalNetworkPolicy', 'StagedGlobalNetworkPolicy'] as const)
      expect(resourceProblems(kind, { metadata: { name: 'g' }, spec }).map(({ field }) => field)).toEqual(
        fields.map((field) => `${kind}.spec.${field}`),
      );
  });
});

describe('tiers', () => {
  const inTier = { tier: 'mine', ...denyAll, selector: "app == 'web'" };

  test('a policy of a tier that comes later isolates until then', () => {
    const index = indexOf(
      calicoEvent('GlobalNetworkPolicy', { name: 'g' }, { ...inTier, ingress: [{ action: 'Pass' }] }),
    );
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('deny');
    expect(index.problems()).toMatchObject([{ error: { field: 'GlobalNetworkPolicy(g).spec.tier' } }]);
    index.apply(calicoEvent('Tier', { name: 'mine' }, { order: 10 }));
    expect(index.problems()).toEqual([]);
    expect(verdict(index, '10.0.0.2', web)).toMatchObject({ verdict: 'allow', passed: [{ tier: 'mine' }] });
    index.apply({ op: 'delete', key: { type: 'Tier', name: 'mine' } });
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('deny');
  });

  test('one that changes its default action changes its pods', () => {
    const spec = { tier: 'mine', types: ['Ingress'] };
    const index = indexOf(calicoEvent('Tier', { name: 'mine' }, {}), calicoPolicyEvent('c', 'one', spec));
    expect(verdict(index, '10.0.0.2', web)).toMatchObject({
      verdict: 'deny',
      reason: { by: 'tierDefault', tier: 'mine' },
    });
    index.apply(calicoEvent('Tier', { name: 'mine' }, { defaultAction: 'Pass' }));
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('allow');
  });

  test('the built-in ones stay as they are', () => {
    const index = indexOf(
      calicoEvent('Tier', { name: 'default' }, { order: 5, defaultAction: 'Pass' }),
      calicoPolicyEvent('c', 'one', {}),
    );
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('deny');
    expect(index.problems().map(({ error }) => error.message)).toEqual([
      'Tier(default).spec.order: 5: expected 1000000, as this tier is built in',
      'Tier(default).spec.defaultAction: "Pass": expected Deny, as this tier is built in',
    ]);
  });
});

describe('network sets', () => {
  const from = (source: object) => calicoPolicyEvent('c', 'one', { ingress: [{ action: 'Allow', source }] });
  const nets = { nets: ['192.0.2.0/24', '198.51.100.7'] };
  const labels = { kind: 'partner' };

  test('one of the same namespace by its labels, a global one by global()', () => {
    const own = calicoEvent('NetworkSet', { name: 's', namespace: 'one', labels }, nets);
    const inside = from({ selector: "kind == 'partner'" });
    expect(verdict(indexOf(own, inside), '192.0.2.9', web).verdict).toBe('allow');
    expect(verdict(indexOf(own, inside), '198.51.100.7', web).verdict).toBe('allow');
    expect(verdict(indexOf(own, inside), '198.51.100.8', web).verdict).toBe('deny');
    const global = calicoEvent('GlobalNetworkSet', { name: 's', labels }, nets);
    expect(verdict(indexOf(global, inside), '192.0.2.9', web).verdict).toBe('deny');
    const out = from({ selector: "kind == 'partner'", namespaceSelector: 'global()' });
    expect(verdict(indexOf(global, out), '192.0.2.9', web).verdict).toBe('allow');
    expect(verdict(indexOf(own, out), '192.0.2.9', web).verdict).toBe('deny');
  });

  test('they inherit the labels of their namespace, also when these change', () => {
    const index = indexOf(
      calicoEvent('NetworkSet', { name: 's', namespace: 'two' }, nets),
      from({ namespaceSelector: "team == 'c'" }),
    );
    expect(verdict(index, '192.0.2.9', web).verdict).toBe('deny');
    index.apply(namespaceEvent('two', { team: 'c' }));
    expect(verdict(index, '192.0.2.9', web).verdict).toBe('allow');
    index.apply({ op: 'delete', key: { type: 'NetworkSet', namespace: 'two', name: 's' } });
    expect(verdict(index, '192.0.2.9', web).verdict).toBe('deny');
  });

  test('a global one cannot claim a namespace, and of an unreadable one the readable prefixes count', () => {
    const forged = calicoEvent(
      'GlobalNetworkSet',
      { name: 's', labels: { ...labels, 'projectcalico.org/namespace': 'one' } },
      nets,
    );
    expect(verdict(indexOf(forged, from({ selector: "kind == 'partner'" })), '192.0.2.9', web).verdict).toBe('deny');
    const key: Key = { type: 'NetworkSet', namespace: 'one', name: 's' };
    const value = { metadata: { labels }, spec: { nets: ['192.0.2.0/24', '10.0.0.0/99', 7] } };
    const deny = calicoPolicyEvent('c', 'one', {
      ingress: [{ action: 'Deny', source: { selector: "kind == 'partner'" } }, { action: 'Allow' }],
    });
    const index = indexOf({ op: 'invalid', entry: { key, error: new Error('refused'), value } }, deny);
    expect(verdict(index, '192.0.2.9', web).verdict).toBe('deny');
    expect(verdict(index, '192.0.3.9', web).verdict).toBe('allow');
    expect(index.problems()).toHaveLength(1);
  });
});

describe('service accounts', () => {
  const account = calicoEvent('Profile', { name: 'ksa.one.robot' }, { labelsToApply: { 'pcsa.role': 'writer' } });
  const robot = withAccount(db, 'robot');

  test.each([
    ['by name', { names: ['robot'] }],
    ['by label', { selector: "role == 'writer'" }],
    ['by both', { names: ['robot', 'other'], selector: 'has(role)' }],
    ['any', { selector: 'all()' }],
  ])('%s in a rule', (_, serviceAccounts) => {
    const rule = { action: 'Allow', source: { serviceAccounts } };
    const index = indexOf(account, robot, calicoPolicyEvent('c', 'one', { ingress: [rule] }));
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('allow');
    expect(verdict(index, '10.0.0.1', web).verdict).toBe('deny');
  });

  test('as what a policy is about', () => {
    const index = indexOf(
      account,
      robot,
      calicoPolicyEvent('c', 'one', { ...denyAll, serviceAccountSelector: "role == 'writer'" }),
    );
    expect(verdict(index, '10.0.0.1', db).verdict).toBe('deny');
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('allow');
  });
});

describe('what is refused', () => {
  const policy = (rule: object) => () =>
    parseResource('NetworkPolicy', {
      kind: 'NetworkPolicy',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'c', namespace: 'one' },
      spec: { ingress: [{ action: 'Allow', ...rule }] },
    });

  test('HTTP and services without a name, with the reason', () => {
    expect(policy({ http: { methods: ['GET'] } })).toThrow(
      /spec\.ingress\[0\]\.http: .*expected no such field: rules cannot/,
    );
    expect(policy({ source: { services: {} } })).toThrow(/source\.services\.name: /);
  });

  test('an unreadable policy isolates only what it can select, in the directions it can be about', async () => {
    const store = createMemoryStore();
    const spec = {
      selector: "app == 'web'",
      types: ['Ingress'],
      ingress: [{ action: 'Allow', source: { services: {} } }],
    };
    store.plant(
      '/calico/resources/v3/projectcalico.org/networkpolicies/one/c',
      JSON.stringify({
        kind: 'NetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'c', namespace: 'one' },
        spec,
      }),
    );
    const { invalid } = await store.list('NetworkPolicy');
    store.close();
    expect(invalid).toHaveLength(1);
    const index = indexOf(...invalid.map((entry): Event => ({ op: 'invalid', entry })));
    expect(verdict(index, '10.0.0.2', web).verdict).toBe('deny');
    expect(verdict(index, '10.0.0.2', web, 'egress').verdict).toBe('allow');
    expect(verdict(index, '10.0.0.1', db).verdict).toBe('allow');
    expect(verdict(index, '10.0.0.1', alien).verdict).toBe('allow');
  });
});

test('the new kinds are stored where Calico keeps them, a policy with its name beside it', async () => {
  const store = createMemoryStore();
  for (const event of [
    calicoEvent('Tier', { name: 'mine' }, { order: 10 }),
    calicoEvent('GlobalNetworkPolicy', { name: 'g' }, { tier: 'mine' }),
    calicoEvent('NetworkSet', { name: 's', namespace: 'one' }, { nets: ['192.0.2.0/24'] }),
    calicoEvent('GlobalNetworkSet', { name: 's' }, { nets: [] }),
  ])
    if (event.op === 'set') await store.create(event.entry.key as Key<'Tier'>, event.entry.value as never);
  const dump = store.dump();
  expect([...dump.keys()].sort()).toEqual(
    ['globalnetworkpolicies/g', 'globalnetworksets/s', 'networksets/one/s', 'tiers/mine'].map(
      (place) => `/calico/resources/v3/projectcalico.org/${place}`,
    ),
  );
  const text = dump.get('/calico/resources/v3/projectcalico.org/globalnetworkpolicies/g') ?? '';
  expect(JSON.parse(text)).toMatchObject({
    metadata: { annotations: { 'projectcalico.org/metadata': '{"name":"g"}' } },
  });
  expect((await store.get({ type: 'GlobalNetworkPolicy', name: 'g' }))?.value.metadata).not.toHaveProperty(
    'annotations',
  );
  store.close();
});
