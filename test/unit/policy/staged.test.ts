import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import type { Event, Key } from '../../../src/datastore/store.ts';
import { type ResourceOf, resourceProblems } from '../../../src/model/kinds.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { merged, preview } from '../../../src/policy/preview.ts';
import { enforcing } from '../../../src/policy/staged.ts';
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

const log = createLog('test', 'silent');
const pod = (name: string, address: string): Event =>
  endpointEvent({ name, namespace: 'shop', labels: { app: name }, addresses: [address], ports: [] });
const world = [namespaceEvent('shop', {}), pod('web', '10.0.0.1'), pod('db', '10.0.0.2')];
const place = { name: 'db', namespace: 'shop' };
const closed = { selector: "app == 'db'", types: ['Ingress'] };

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
    const [bare, index] = [new PolicyIndex(node, log), new PolicyIndex(node, log)];
    for (const event of world) bare.apply(event);
    for (const event of [...world, ...staged]) index.apply(event);
    expect(index.snapshot()).toEqual(bare.snapshot());
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
