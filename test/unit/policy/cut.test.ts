import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { refuses, type Tracked } from '../../../src/policy/cut.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { defaultRenderOptions, renderFilter } from '../../../src/policy/render.ts';
import { calicoPolicyEvent, endpointEvent, namespaceEvent, node } from '../../support/cluster.ts';

const pod = (name: string, address: string) => ({
  name,
  namespace: 'one',
  labels: { app: name },
  addresses: [address],
  ports: [],
});
const index = new PolicyIndex(node, createLog('test', 'silent'));
for (const event of [
  namespaceEvent('one', {}),
  endpointEvent(pod('web', '10.0.0.1')),
  endpointEvent(pod('db', '10.0.0.2')),
  endpointEvent(pod('far', '10.0.0.3'), 'another'),
  calicoPolicyEvent('db', 'one', {
    selector: "app == 'db'",
    types: ['Ingress', 'Egress'],
    ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [5432] } }],
  }),
])
  index.apply(event);
const own = new Set([parseIp('192.0.2.1')]);
const refused = refuses(index.snapshot(), index.localAddresses(), own);
const tcp = (source: string, destination: string, destinationPort: number, more: Partial<Tracked> = {}): Tracked => ({
  source: parseIp(source),
  destination: parseIp(destination),
  protocol: 6,
  sourcePort: 40_000,
  destinationPort,
  expected: false,
  ...more,
});

test.each<[string, Tracked, boolean]>([
  ['what a rule allows stays', tcp('10.0.0.1', '10.0.0.2', 5432), false],
  ['what none allows is refused at its destination', tcp('10.0.0.1', '10.0.0.2', 80), true],
  ['from another node, too', tcp('10.0.0.3', '10.0.0.2', 80), true],
  ['and at its source', tcp('10.0.0.2', '10.0.0.1', 80), true],
  ['whatever the destination', tcp('10.0.0.2', '198.51.100.1', 80), true],
  ['a pod of another node is not asked', tcp('10.0.0.1', '10.0.0.3', 80), false],
  ['the node itself is not asked', tcp('192.0.2.1', '10.0.0.2', 80), false],
  ['a pod reaches itself', tcp('10.0.0.2', '10.0.0.2', 80), false],
  ['related connections live by their own', tcp('10.0.0.1', '10.0.0.2', 80, { expected: true }), false],
  ['strangers to strangers are none of ours', tcp('198.51.100.1', '198.51.100.2', 80), false],
])('%s', (_, connection, expected) => {
  expect(refused(connection)).toBe(expected);
});

test('a connection that was cut is not taken up from its middle', () => {
  const chainOf = (dropMidstream: boolean) =>
    renderFilter(index.snapshot(), 4, { ...defaultRenderOptions, dropMidstream }).table.chains.get('cali-tw-calidb') ??
    [];
  const rule = '-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP';
  expect(chainOf(true)).toContain(rule);
  expect(chainOf(false)).not.toContain(rule);
});
