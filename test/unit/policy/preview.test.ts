import { describe, expect, test } from 'vitest';
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

describe('host endpoints', () => {
  const nodes = [
    calicoEvent('Node', { name: 'node-of-web' }, { bgp: { ipv4Address: '192.0.2.1/24' } }),
    calicoEvent('Node', { name: 'node-of-db' }, { bgp: { ipv4Address: '192.0.2.2/24' } }),
  ];
  const host = (node: string, spec: object = {}) =>
    calicoEvent('HostEndpoint', { name: node, labels: { node } }, { node, interfaceName: 'eth0', ...spec });
  const open = { profiles: ['projectcalico-default-allow'] };
  const toDb = (spec: object) =>
    calicoEvent(
      'GlobalNetworkPolicy',
      { name: 'h' },
      { selector: "node == 'node-of-db'", types: ['Ingress'], ...spec },
    );
  const only80 = { ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [80] } }] };

  test('the first one closes a node but for failsafe ports, which are asked when they change', () => {
    const before = [...world, ...nodes, host('node-of-web', open)];
    expect(changes(before, [host('node-of-db')])).toEqual([
      'shop/web -> host:node-of-db tcp 1: allow -> deny',
      'shop/job -> host:node-of-db tcp 1: allow -> deny',
      'host:node-of-db -> shop/web tcp 1: allow -> deny',
      'host:node-of-db -> shop/job tcp 1: allow -> deny',
      'host:node-of-db -> host:node-of-web tcp 1: allow -> deny',
      'host:node-of-web -> host:node-of-db tcp 1: allow -> deny',
    ]);
    const ssh = calicoEvent('FelixConfiguration', { name: 'default' }, { failsafeInboundHostPorts: [] });
    expect(changes([...before, host('node-of-db')], [ssh])).toContain(
      'host:node-of-web -> host:node-of-db tcp 22: allow -> deny',
    );
  });

  test("a policy for the host's own traffic leaves what it forwards, one with applyOnForward does not", () => {
    const before = [...world, ...nodes, host('node-of-db', open), host('node-of-web', open)];
    const own = changes(before, [toDb(only80)]);
    expect(own).toContain('host:node-of-web -> host:node-of-db tcp 1: allow -> deny');
    expect(own.filter((line) => line.includes('-> shop/db'))).toEqual([]);
    const all = changes(before, [toDb({ ...only80, applyOnForward: true })]);
    expect(all).toContain('shop/web -> shop/db tcp 1: allow -> deny');
    expect(all.some((line) => line.includes('tcp 80'))).toBe(false);
  });

  test('a pool that puts packets into a tunnel takes them past the device', () => {
    const closed = toDb({ ingress: [{ action: 'Deny' }], applyOnForward: true });
    const before = [...world, ...nodes, host('node-of-db', open), closed];
    const pool = calicoEvent('IPPool', { name: 'pool' }, { cidr: '10.0.0.0/16', vxlanMode: 'Always' });
    expect(changes(before, [pool])).toContain('shop/web -> shop/db tcp 1: deny -> allow');
  });
});
