import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { explainPage } from '../../../src/cli/explain-page.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseEnd, parseTarget } from '../../../src/policy/ends.ts';
import { merged } from '../../../src/policy/preview.ts';
import { answer } from '../../../src/policy/question.ts';
import { calicoEvent, endpointEvent, namespaceEvent } from '../../support/cluster.ts';

/* Host endpoints on the way of a connection, as `margayctl explain` tells of them. */

const log = createLog('test', 'silent');
const pod = (name: string, address: string) => ({
  name,
  namespace: 'shop',
  labels: {},
  addresses: [address],
  ports: [],
});
const nodeEvent = (name: string, address: string) => calicoEvent('Node', { name }, { bgp: { ipv4Address: address } });
const world: Event[] = [
  namespaceEvent('shop', {}),
  endpointEvent(pod('web', '10.0.0.1'), 'n1'),
  endpointEvent(pod('near', '10.0.0.3'), 'n1'),
  endpointEvent(pod('db', '10.0.0.2'), 'n2'),
  nodeEvent('n1', '192.0.2.1/24'),
  nodeEvent('n2', '192.0.2.2/24'),
];
const host = (name: string, node: string, spec: object) =>
  calicoEvent('HostEndpoint', { name, labels: { node } }, { node, ...spec });
const pool = (spec: object) => calicoEvent('IPPool', { name: 'pool' }, { cidr: '10.0.0.0/16', ...spec });

function ask(from: string, to: string, ...more: Event[]) {
  const { party: destination, transport } = parseTarget(to, 'shop', 'TO');
  return answer(merged(world, more), { source: parseEnd(from, 'shop', 'FROM'), destination, transport }, log);
}

function steps(from: string, to: string, ...more: Event[]): string[] {
  return ask(from, to, ...more).hosts.map(
    ({ direction, passage, hostEndpoint, verdict }) => `${direction} ${passage} ${hostEndpoint} ${verdict}`,
  );
}

const both = [host('a', 'n1', { interfaceName: '*' }), host('b', 'n2', { interfaceName: 'eth0' })];

test.each([
  ['web', 'db:80', ['egress forwarded a allow', 'ingress forwarded b allow']],
  ['web', 'near:80', []],
  ['web', '203.0.113.9:80', ['egress forwarded a allow']],
  ['203.0.113.9', 'db:80', ['ingress forwarded b allow']],
  ['host:n1', 'db:80', ['egress own a deny', 'ingress forwarded b allow']],
  ['host:n1', 'host:n2:6443', ['egress own a allow', 'ingress own b allow']],
  ['192.0.2.1', '192.0.2.2:80', ['egress own a deny', 'ingress own b deny']],
  ['203.0.113.9', 'host:n2:22', ['ingress own b allow']],
  ['host:n1', 'web:80', []],
  ['203.0.113.9', '203.0.113.8:80', []],
])('%s to %s passes %j', (from, to, expected) => {
  expect(steps(from, to, ...both)).toEqual(expected);
});

describe('which host endpoint it is', () => {
  const eth0 = host('eth0', 'n2', { interfaceName: 'eth0' });
  const eth1 = host('eth1', 'n2', { interfaceName: 'eth1' });

  test('the one that expects the address of the node, before that of all devices', () => {
    const found = host('z', 'n2', { expectedIPs: ['192.0.2.2'] });
    const other = host('y', 'n2', { interfaceName: 'eth1', expectedIPs: ['198.51.100.2'] });
    const all = host('x', 'n2', { interfaceName: '*' });
    expect(steps('web', 'db:80', found, other, all)).toEqual(['ingress forwarded z allow']);
    expect(steps('203.0.113.9', '198.51.100.2:80', found, other, all)).toEqual(['ingress own y deny']);
    expect(steps('web', 'db:80', other, all)).toEqual(['ingress forwarded x allow']);
  });

  test('of several that can be meant none is asked, and the answer says so', () => {
    const found = ask('web', 'db:80', eth0, eth1);
    expect(found.hosts).toEqual([]);
    expect(found.problems).toEqual([expect.stringMatching(/^node n2 has several host endpoints/)]);
  });

  test.each([
    [{ vxlanMode: 'Always' }, '192.0.2.2/24', []],
    [{ ipipMode: 'Always' }, '192.0.2.2/24', []],
    [{ vxlanMode: 'CrossSubnet' }, '192.0.2.2/24', ['ingress forwarded eth0 allow']],
    [{ vxlanMode: 'CrossSubnet' }, '198.51.100.2/24', []],
    [{}, '198.51.100.2/24', ['ingress forwarded eth0 allow']],
  ])('a pool with %j carries past a device of node %s: %j', (spec, address, expected) => {
    expect(steps('web', 'db:80', nodeEvent('n2', address), eth0, pool(spec))).toEqual(expected);
    const all = host('all', 'n2', { interfaceName: '*' });
    expect(steps('web', 'db:80', nodeEvent('n2', address), all, pool(spec))).toEqual(['ingress forwarded all allow']);
  });
});

test('failsafe ports are those of the node, then of all, and only for the ends that they name', () => {
  const configuration = (name: string, net: string) =>
    calicoEvent('FelixConfiguration', { name }, { failsafeInboundHostPorts: [{ protocol: 'tcp', port: 85, net }] });
  const one = host('b', 'n2', { interfaceName: 'eth0' });
  const verdict = (from: string, port: number, ...more: Event[]) =>
    ask(from, `host:n2:${port}`, one, ...more).hosts[0]?.reason.by;
  expect(verdict('203.0.113.9', 22)).toBe('failsafe');
  const all = configuration('default', '203.0.113.0/24');
  expect([verdict('203.0.113.9', 22, all), verdict('203.0.113.9', 85, all)]).toEqual(['noProfile', 'failsafe']);
  expect(verdict('198.51.100.9', 85, all)).toBe('noProfile');
  const own = configuration('node.n2', 'fd00::/8');
  expect(verdict('203.0.113.9', 85, own, all)).toBe('noProfile');
});

test('the page tells the stages with their tables, and the device', () => {
  const early = calicoEvent(
    'GlobalNetworkPolicy',
    { name: 'early' },
    { selector: "node == 'n2'", doNotTrack: true, applyOnForward: true, ingress: [{ action: 'Log' }] },
  );
  const late = calicoEvent(
    'GlobalNetworkPolicy',
    { name: 'late' },
    { selector: "node == 'n2'", applyOnForward: true, ingress: [{ action: 'Allow', protocol: 'UDP' }] },
  );
  const found = ask('203.0.113.9', 'db:80', host('b', 'n2', { interfaceName: 'eth0' }), early, late);
  expect(found.verdict).toBe('deny');
  expect(explainPage(found)).toContain(`
ingress at host endpoint b (eth0 of n2), forwarded by the host: denied, as policies of tier default apply and none of their rules matches
  before connection tracking (table raw, chain cali-fh-eth0)
  tier default: no rule decides, and the tier passes on
    GlobalNetworkPolicy early (chain cali-pi-early)
      rule 1 log: matches everything
  for forwarded traffic (table filter, chain cali-fhfw-eth0)
  tier default: no rule decides, so the tier denies
    GlobalNetworkPolicy late (chain cali-pi-late)
      rule 1 allow: no, wants protocol 17
`);
  const self = explainPage(ask('host:n1', 'host:n2:22', ...both));
  expect(self).toContain('host n1 (192.0.2.1) -> host n2 (192.0.2.2), tcp 22: denied');
  expect(self).toContain('received by the host: allowed, as it is a failsafe port');
});

test('a pod and its own host: the setting that counts there is named where the datastore has it drop', () => {
  const stored = (name: string, action: string) =>
    calicoEvent('FelixConfiguration', { name }, { defaultEndpointToHostAction: action });
  const told = (...more: Event[]) => ask('web', 'host:n1:80', ...more).problems;
  expect(told()).toEqual([expect.stringContaining('node n1 drops')]);
  expect(told(stored('default', 'Accept'))).toEqual([]);
  expect(told(stored('default', 'Accept'), stored('node.n1', 'DROP'))).toHaveLength(1);
  expect(ask('web', 'near:80').problems).toEqual([]);
});

test.each(['host:n9', 'host:'])('%s is refused', (text) => {
  expect(() => ask(text, 'web:80')).toThrow();
});
