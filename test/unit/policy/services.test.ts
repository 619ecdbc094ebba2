import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { answer } from '../../../src/policy/question.ts';
import { calicoEvent, endpointEvent, endpointText, namespaceEvent, node, sliceEvent } from '../../support/cluster.ts';
import type { Pod } from '../../support/oracle.ts';

/* Rules that name Services: their EndpointSlices say which addresses and ports those are. */

const log = createLog('test', 'silent');
const pod: Pod = { name: 'web', namespace: 'one', labels: { app: 'web' }, addresses: ['10.0.0.1'], ports: [] };
const world = [namespaceEvent('one', {}), endpointEvent(pod)];
const slice = sliceEvent(
  'one',
  'db',
  ['10.0.0.9', '10.0.0.8'],
  [
    { name: 'sql', port: 5432 },
    { protocol: 'UDP', port: 53 },
  ],
);

function indexOf(...events: Event[]): PolicyIndex {
  const index = new PolicyIndex(node, log);
  for (const event of [...world, ...events]) index.apply(event);
  return index;
}

/** `tcp 5432` to (`egress`) or from (`ingress`) an address. */
function verdict(index: PolicyIndex, direction: 'ingress' | 'egress', other: string, protocol: 6 | 17, port: number) {
  const [source, destination] = direction === 'ingress' ? [other, '10.0.0.1'] : ['10.0.0.1', other];
  return evaluate(index.snapshot(), {
    endpoint: endpointText(pod),
    direction,
    source: parseIp(source),
    destination: parseIp(destination),
    protocol,
    sourcePort: 40_000,
    destinationPort: port,
  }).verdict;
}

const toDb = (services: object) => ({ egress: [{ action: 'Allow', destination: { services } }] });
const own = (spec: object) => calicoEvent('NetworkPolicy', { name: 'p', namespace: 'one' }, spec);

test('egress to a service reaches its endpoints on its ports only', () => {
  const index = indexOf(slice, own(toDb({ name: 'db' })));
  expect(index.problems()).toEqual([]);
  expect(verdict(index, 'egress', '10.0.0.9', 6, 5432)).toBe('allow');
  expect(verdict(index, 'egress', '10.0.0.8', 17, 53)).toBe('allow');
  expect(verdict(index, 'egress', '10.0.0.9', 17, 5432)).toBe('deny');
  expect(verdict(index, 'egress', '10.0.0.9', 6, 53)).toBe('deny');
  expect(verdict(index, 'egress', '10.0.0.7', 6, 5432)).toBe('deny');
});

test('ingress from a service is from its endpoints, on whatever port', () => {
  const index = indexOf(
    slice,
    own({ ingress: [{ action: 'Allow', source: { services: { name: 'db', namespace: 'one' } } }] }),
  );
  expect(verdict(index, 'ingress', '10.0.0.9', 6, 80)).toBe('allow');
  expect(verdict(index, 'ingress', '10.0.0.7', 6, 80)).toBe('deny');
});

test('slices come, change and go', () => {
  const index = indexOf(own(toDb({ name: 'db' })));
  expect(verdict(index, 'egress', '10.0.0.9', 6, 5432)).toBe('deny');
  index.apply(slice);
  index.apply(sliceEvent('one', 'db', ['10.0.0.9'], [{ port: 5432 }], 'db-2'));
  index.apply(sliceEvent('one', 'db', ['10.0.0.7'], [{ port: 5432 }]));
  expect(verdict(index, 'egress', '10.0.0.9', 6, 5432)).toBe('allow');
  expect(verdict(index, 'egress', '10.0.0.8', 6, 5432)).toBe('deny');
  expect(verdict(index, 'egress', '10.0.0.7', 6, 5432)).toBe('allow');
  if (slice.op === 'set') index.apply({ op: 'delete', key: slice.entry.key });
  expect(verdict(index, 'egress', '10.0.0.7', 6, 5432)).toBe('deny');
});

describe('refused, and then closed', () => {
  test.each<[string, object, RegExp]>([
    [
      'ports',
      { egress: [{ action: 'Allow', protocol: 'TCP', destination: { services: { name: 'db' }, ports: [80] } }] },
      /destination\.ports: .*nothing beside services/,
    ],
    [
      'selector',
      { egress: [{ action: 'Allow', destination: { services: { name: 'db' }, selector: 'all()' } }] },
      /destination\.selector: .*nothing beside/,
    ],
    [
      'source of egress',
      { egress: [{ action: 'Allow', source: { services: { name: 'db' } } }] },
      /source\.services: .*only in the source of ingress/,
    ],
  ])('%s', (_, spec, message) => {
    const index = indexOf(slice, own(spec));
    expect(
      index
        .problems()
        .map(({ error }) => error.message)
        .join(),
    ).toMatch(message);
    expect(verdict(index, 'egress', '10.0.0.9', 6, 5432)).toBe('deny');
  });

  test('a global policy names the namespace', () => {
    const index = indexOf(slice, calicoEvent('GlobalNetworkPolicy', { name: 'g' }, toDb({ name: 'db' })));
    expect(index.problems().map(({ error }) => error.message)).toEqual([expect.stringContaining('services.namespace')]);
    const named = indexOf(
      slice,
      calicoEvent('GlobalNetworkPolicy', { name: 'g' }, toDb({ name: 'db', namespace: 'one' })),
    );
    expect(verdict(named, 'egress', '10.0.0.9', 6, 5432)).toBe('allow');
  });
});

test('explain says which service it was', () => {
  const question = {
    source: { namespace: 'one', pod: 'web' },
    destination: { address: parseIp('10.0.0.9') },
    transport: { protocol: 'tcp' as const, port: 5432 },
  };
  const found = answer([...world, slice, own(toDb({ name: 'db' }))], question, log);
  expect(found.verdict).toBe('allow');
  expect(found.source.trace?.tiers[0]?.policies[0]?.rules[0]?.conditions).toEqual([
    { condition: 'destinationPortSets', wanted: 'endpoints of service one/db' },
  ]);
});
