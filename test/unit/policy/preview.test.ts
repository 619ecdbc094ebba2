import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { merged, preview } from '../../../src/policy/preview.ts';
import { calicoEvent, endpointEvent, namespaceEvent, policyEvent } from '../../support/cluster.ts';

const log = createLog('test', 'silent');
const pod = (name: string, address: string): Event =>
  endpointEvent({ name, namespace: 'shop', labels: { app: name }, addresses: [address], ports: [] }, `node-of-${name}`);
const world = [namespaceEvent('shop', {}), pod('web', '10.0.0.1'), pod('db', '10.0.0.2'), pod('job', '10.0.0.3')];
const policy = (port: number): Event =>
  policyEvent({
    name: 'db',
    namespace: 'shop',
    spec: {
      podSelector: { matchLabels: { app: 'db' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port }] }],
    },
  });

function changes(before: readonly Event[], change: readonly Event[]): string[] {
  return preview(before, merged(before, change), log).map(
    ({ from, to, protocol, port, before: was, after }) => `${from} -> ${to} ${protocol} ${port}: ${was} -> ${after}`,
  );
}

test('a new policy closes what it does not name', () => {
  expect(changes(world, [policy(5432)])).toEqual([
    'shop/web -> shop/db tcp 1: allow -> deny',
    'shop/job -> shop/db tcp 5432: allow -> deny',
    'shop/job -> shop/db tcp 1: allow -> deny',
  ]);
});

test('a changed port opens one and closes the other', () => {
  expect(changes([...world, policy(5432)], [policy(3306)])).toEqual([
    'shop/web -> shop/db tcp 5432: allow -> deny',
    'shop/web -> shop/db tcp 3306: deny -> allow',
  ]);
});

test('a label that joins a set counts, and the same objects change nothing', () => {
  const before = [...world, policy(5432)];
  const relabelled = endpointEvent({
    name: 'job',
    namespace: 'shop',
    labels: { app: 'web' },
    addresses: ['10.0.0.3'],
    ports: [],
  });
  expect(changes(before, [relabelled])).toEqual(['shop/job -> shop/db tcp 5432: deny -> allow']);
  expect(changes(before, [policy(5432)])).toEqual([]);
  const set = calicoEvent('GlobalNetworkSet', { name: 's' }, { nets: ['192.0.2.0/24'] });
  expect(changes(before, [set])).toEqual([]);
});
