import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { stagedTable } from '../../../src/cli/policy.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import type { Event, Key } from '../../../src/datastore/store.ts';
import { stagedCounts, stagedTables } from '../../../src/felix/staged.ts';
import { parseIp } from '../../../src/model/address.ts';
import { type ResourceOf, resourceProblems } from '../../../src/model/kinds.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { merged, preview } from '../../../src/policy/preview.ts';
import { chainName } from '../../../src/policy/render/names.ts';
import { renderFilter } from '../../../src/policy/render.ts';
import { enforcing } from '../../../src/policy/staged.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';
import {
  calicoEvent,
  calicoPolicyEvent,
  cluster,
  clusterEvents,
  endpointEvent,
  namespaceEvent,
  node,
  policyEvent,
} from '../../support/cluster.ts';
import { traverse } from '../../support/netfilter.ts';

const log = createLog('test', 'silent');
const pod = (name: string, address: string): Event =>
  endpointEvent({ name, namespace: 'shop', labels: { app: name }, addresses: [address], ports: [] });
const world = [namespaceEvent('shop', {}), pod('web', '10.0.0.1'), pod('db', '10.0.0.2')];
const place = { name: 'db', namespace: 'shop' };
const closed = { selector: "app == 'db'", types: ['Ingress'] };

describe('in the kernel', () => {
  const written = (name: string, order: number, ingress: object[]) =>
    calicoEvent('StagedNetworkPolicy', { ...place, name }, { ...closed, order, ingress });
  const enforced = (name: string, order: number) => calicoPolicyEvent(name, 'shop', { ...closed, order });
  const db = 'WorkloadEndpoint/shop/node--1-k8s-db-eth0';

  function indexOf(...events: Event[]): PolicyIndex {
    const index = new PolicyIndex(node, log);
    for (const event of [...world, ...events]) index.apply(event);
    return index;
  }

  const jumps = (index: PolicyIndex) => {
    const { table } = renderFilter(index.snapshot(), 4);
    const chain = chainOf(rulesOf(table), 'calidb', 'ingress') ?? '';
    return (table.chains.get(chain) ?? []).flatMap((rule) => /-j (cali-[sp]r?i-\S+)/.exec(rule)?.[1] ?? []);
  };

  test('each stands where it would, before the one that it replaces', () => {
    const index = indexOf(
      written('a', 1, [{ action: 'Deny' }]),
      enforced('b', 2),
      written('b', 2, [{ action: 'Allow' }]),
      written('c', 3, [{ action: 'Pass' }]),
    );
    const [a, b, c] = ['a', 'b', 'c'].map((name) => chainName('cali-si-', `StagedNetworkPolicy/shop/${name}`));
    expect(jumps(index)).toEqual([a, b, 'cali-pi-shop/b', c, 'cali-pri-kns.shop']);
    const { endpoints, policies } = index.snapshot();
    expect(endpoints.get(db)?.tiers).toMatchObject([{ tier: 'default', ingress: ['shop/b'], egress: [] }]);
    expect(policies.get('StagedNetworkPolicy/shop/a')?.title).toBe('StagedNetworkPolicy shop/a');
  });

  test('a tier with staged policies alone isolates nobody, and they leave nothing behind', () => {
    const index = indexOf(written('a', 1, [{ action: 'Deny' }]));
    const { table, sets } = renderFilter(index.snapshot(), 4);
    const wire = { source: '10.0.0.1', destination: '10.0.0.2', input: 'caliweb', output: 'calidb', protocol: 6 };
    const way = traverse(table, sets, 'cali-to-wl-dispatch', { ...wire, destinationPort: 1 });
    expect([way.end, way.mark & 0x10000]).toEqual(['RETURN', 0x10000]);
    index.apply({ op: 'delete', key: { type: 'StagedNetworkPolicy', ...place, name: 'a' } });
    expect(jumps(index)).toEqual(['cali-pri-kns.shop']);
    expect(index.snapshot().policies.size).toBe(0);
  });

  test('those that would delete, or have no tier yet, are not counted', () => {
    const global = (name: string, spec: object) => calicoEvent('StagedGlobalNetworkPolicy', { name }, spec);
    const index = indexOf(
      calicoEvent('StagedNetworkPolicy', { ...place, name: 'gone' }, { stagedAction: 'Delete' }),
      global('later', { tier: 'later', types: ['Ingress'] }),
    );
    expect(index.snapshot().policies.size).toBe(0);
    index.apply(calicoEvent('Tier', { name: 'later' }, {}));
    expect([...index.snapshot().policies.keys()]).toEqual(['StagedGlobalNetworkPolicy/later']);
  });

  test('those before the filter table are counted in theirs, at host endpoints, and decide nothing', () => {
    const early = (name: string, spec: object) =>
      calicoEvent(
        'StagedGlobalNetworkPolicy',
        { name },
        { applyOnForward: true, ingress: [{ action: 'Deny' }], ...spec },
      );
    const staged = (name: string) => chainName('cali-si-', `StagedGlobalNetworkPolicy/${name}`);
    const index = indexOf(
      calicoEvent('HostEndpoint', { name: 'h' }, { node, interfaceName: 'eth0' }),
      early('raw', { doNotTrack: true }),
      early('mangle', { preDNAT: true, types: ['Ingress'] }),
    );
    const policy = index.snapshot();
    expect(stagedTables(policy)).toEqual(['raw', 'mangle']);
    const { table, early: tables } = renderFilter(policy, 4);
    for (const [name, { chains }] of [
      ['raw', tables.raw],
      ['mangle', tables.mangle],
    ] as const) {
      expect(chains.get('cali-fh-eth0')).toContain(`-m mark --mark 0x0/0x20000 -j ${staged(name)}`);
      expect(chains.get(staged(name))).toEqual(['-j RETURN', '-j RETURN']);
      expect(table.chains.has(staged(name))).toBe(false);
      const packet = { source: '192.0.2.1', destination: '192.0.2.2', input: 'eth0', output: '', protocol: 6 };
      const way = traverse({ chains, insertions: new Map() }, new Map(), 'cali-PREROUTING', { ...packet, mark: 0 });
      expect([way.end, way.mark & 0x10000]).toEqual(['RETURN', 0]);
    }
    const counters = new Map([
      [staged('raw'), [1, 2].map((packets) => ({ hash: '', text: '-j RETURN', packets, bytes: 10 * packets }))],
    ]);
    expect(stagedCounts(policy, new Map([[4, counters]])).map(({ rule, packets }) => [rule, packets])).toEqual([
      [0, 1],
      [-1, 2],
    ]);
  });

  test('lines are summed by the rule as written, over both families; others than expected are left out', () => {
    const ports = Array.from({ length: 20 }, (_, i) => i * 3 + 1);
    const policy = indexOf(
      written('a', 1, [
        { action: 'Log' },
        { action: 'Allow', protocol: 'TCP', destination: { ports } },
        { action: 'Deny', source: { nets: ['10.0.0.0/8'] } },
      ]),
    ).snapshot();
    const chain = chainName('cali-si-', 'StagedNetworkPolicy/shop/a');
    const countersOf = (family: 4 | 6) => {
      const rules = renderFilter(policy, family).table.chains.get(chain) ?? [];
      return new Map([[chain, rules.map((text, i) => ({ hash: '', text, packets: i + 1, bytes: 10 * family }))]]);
    };
    const tables = new Map(([4, 6] as const).map((family) => [family, countersOf(family)]));
    const counts = stagedCounts(policy, tables);
    // IPv4: lines 1 and 2, 3, 4; IPv6, which the prefix cannot match: lines 1 and 2, 3.
    expect(counts.map(({ rule, action, packets, bytes }) => [rule, action, packets, bytes])).toEqual([
      [1, 'allow', 3 + 3, 80 + 120],
      [2, 'deny', 3, 40],
      [-1, 'none', 4 + 3, 40 + 60],
    ]);
    expect(stagedCounts(policy, new Map([[4, new Map([[chain, []]])]]))).toEqual([]);
    expect(stagedTable(counts)).toContain('2 allow');
  });
});

function changes(before: readonly Event[]): string[] {
  return preview(before, merged(before, enforcing(before)), log).map(
    ({ from, to, port, before: was, after }) => `${from} -> ${to} ${port}: ${was} -> ${after}`,
  );
}

describe('staged policies', () => {
  const staged = [
    calicoEvent('StagedNetworkPolicy', place, closed),
    calicoEvent('StagedGlobalNetworkPolicy', { name: 'db' }, closed),
    calicoEvent('StagedKubernetesNetworkPolicy', place, { podSelector: { matchLabels: { app: 'db' } } }),
  ];

  test.each(staged)('%# is previewed', (event) => {
    expect(changes([...world, event])).toEqual(['shop/web -> shop/db 1: allow -> deny']);
  });

  test('are never enforced', () => {
    const index = new PolicyIndex(node, log);
    for (const event of [...world, ...staged]) index.apply(event);
    const policy = index.snapshot();
    for (const { endpoint, tiers } of policy.endpoints.values()) {
      expect(tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress])).toEqual([]);
      const [source, destination] = ['10.0.0.1', '10.0.0.2'].map((address) => parseIp(address));
      if (!source || !destination) continue;
      for (const direction of ['ingress', 'egress'] as const)
        expect(evaluate(policy, { endpoint, direction, source, destination, protocol: 6 }).verdict).toBe('allow');
    }
  });

  test('with Delete take away the policy of their name, and no other', () => {
    const enforced = calicoPolicyEvent('db', 'shop', closed);
    const remove = { stagedAction: 'Delete', tier: 'default' };
    expect(changes([...world, enforced, calicoEvent('StagedNetworkPolicy', place, remove)])).toEqual([
      'shop/web -> shop/db 1: deny -> allow',
    ]);
    expect(changes([...world, enforced, calicoEvent('StagedGlobalNetworkPolicy', { name: 'db' }, remove)])).toEqual([]);
    const kubernetes = policyEvent({ ...place, spec: { podSelector: {} } });
    const removal = calicoEvent('StagedKubernetesNetworkPolicy', place, { stagedAction: 'Delete' });
    expect(enforcing([removal])).toEqual([
      { op: 'delete', key: 'entry' in kubernetes ? kubernetes.entry.key : undefined },
    ]);
  });

  test('with Delete describe nothing', () => {
    const value = { kind: 'StagedNetworkPolicy', metadata: place, spec: { ...closed, stagedAction: 'Delete' } };
    expect(resourceProblems('StagedNetworkPolicy', value).map(({ field }) => field)).toEqual([
      'StagedNetworkPolicy.spec.stagedAction',
    ]);
  });

  test('of Kubernetes become the policies that they would be', () => {
    fc.assert(
      fc.property(cluster, ({ policies, ...base }) => {
        const before = clusterEvents({ ...base, policies: [] });
        const proposals = policies.map(({ name, namespace, spec }) =>
          calicoEvent('StagedKubernetesNetworkPolicy', { name, namespace }, spec),
        );
        expect(enforcing([...before, ...proposals])).toEqual(policies.map(policyEvent));
      }),
      { numRuns: 50 },
    );
  });

  test('keep their name in the datastore', async () => {
    const store = createMemoryStore();
    const key: Key<'StagedNetworkPolicy'> = { type: 'StagedNetworkPolicy', name: 'default.db', namespace: 'shop' };
    const value = { ...staged[0], entry: staged[0]?.op === 'set' ? staged[0].entry.value : undefined };
    await store.create(key, value.entry as ResourceOf<'StagedNetworkPolicy'>);
    expect((await store.get(key))?.value.metadata.name).toBe('db');
    store.close();
  });
});
