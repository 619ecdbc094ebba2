import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { refuses, type Tracked } from '../../../src/policy/cut.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { defaultRenderOptions, renderFilter } from '../../../src/policy/render.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';
import { calicoEvent, calicoPolicyEvent, endpointEvent, namespaceEvent, node } from '../../support/cluster.ts';

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

/*
 * Host endpoints: of eth0, whose policies let in ssh and https and forward to port 80 only, and of all other devices,
 * which let nothing pass on the host's own behalf.
 */
const host = (name: string, interfaceName: string) =>
  calicoEvent('HostEndpoint', { name, labels: { device: interfaceName } }, { node, interfaceName });
const hostPolicy = (name: string, spec: object) => calicoEvent('GlobalNetworkPolicy', { name }, spec);
const tcpTo = (...ports: number[]) => [{ action: 'Allow', protocol: 'TCP', destination: { ports } }];
const hosts = new PolicyIndex(node, createLog('test', 'silent'));
for (const event of [
  namespaceEvent('one', {}),
  endpointEvent(pod('web', '10.0.0.1')),
  host('a', 'eth0'),
  host('b', '*'),
  hostPolicy('own', { selector: "device == 'eth0'", ingress: tcpTo(443), egress: tcpTo(443) }),
  hostPolicy('early', {
    ...{ selector: "device == 'eth0'", preDNAT: true, applyOnForward: true },
    ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [30080] } }],
    types: ['Ingress'],
  }),
  hostPolicy('forward', { selector: "device == 'eth0'", applyOnForward: true, order: 1, ingress: tcpTo(80, 443) }),
])
  hosts.apply(event);

describe('host endpoints', () => {
  const devices = new Map<string, string>([
    ['198.51.100.1', 'eth0'],
    ['198.51.100.2', 'eth1'],
    ['10.0.0.9', 'caliother'],
    ['127.0.0.9', 'lo'],
  ]);
  const surroundings = {
    failsafes: { inbound: [{ protocol: 'tcp', port: 22 } as const], outbound: [] },
    interfacePrefix: 'cali',
    tunnelPorts: new Set([4789]),
    deviceOf: (address: string) => devices.get(address),
  };
  const denied = refuses(hosts.snapshot(), hosts.localAddresses(), own, surroundings);
  const [here, eth0, eth1] = ['192.0.2.1', '198.51.100.1', '198.51.100.2'];
  const translated = (port: number, to: number) => ({
    ...tcp(eth0, '10.0.0.1', to),
    sentTo: { destination: parseIp(here), destinationPort: port },
  });

  test.each<[string, Tracked, boolean]>([
    ['what its policy lets the host receive', tcp(eth0, here, 443), false],
    ['what a policy for forwarded traffic, which counts here too, lets the host receive', tcp(eth0, here, 80), false],
    ['what no rule lets the host receive', tcp(eth0, here, 81), true],
    ['a failsafe port', tcp(eth0, here, 22), false],
    ['what its policy lets the host send', tcp(here, eth0, 443), false],
    ['what no rule lets the host send', tcp(here, eth0, 81), true],
    ['at the device of all others', tcp(here, eth1, 443), true],
    ['to a pod here', tcp(here, '10.0.0.1', 81), false],
    ['to itself', tcp(here, here, 81), false],
    ['by loopback', tcp(here, '127.0.0.9', 81), false],
    ["by a pod's device that nobody knows", tcp(here, '10.0.0.9', 81), false],
    ['an address behind no single device, which is not asked', tcp(here, '203.0.113.1', 81), false],
    ['a tunnel', { ...tcp(here, eth1, 4789), protocol: 17 }, false],
    ['what is forwarded to a port that may', tcp(eth0, '10.0.0.1', 80), false],
    ['what is forwarded to another', tcp(eth0, '10.0.0.1', 81), true],
    ['what is forwarded by a device without such a policy', tcp(eth1, '10.0.0.1', 81), false],
    ['from a pod out', tcp('10.0.0.1', eth0, 81), false],
    ['by the port before the destination was translated', translated(30_080, 80), true],
    ['and not by that after it', translated(30_081, 80), false],
  ])('%s', (_, connection, expected) => {
    expect(denied(connection)).toBe(expected);
  });

  test('the only one, for all devices, is asked whatever the device', () => {
    const one = new PolicyIndex(node, createLog('test', 'silent'));
    one.apply(host('b', '*'));
    const only = refuses(one.snapshot(), one.localAddresses(), own, surroundings);
    expect(only(tcp(here, '203.0.113.1', 81))).toBe(true);
    expect(only(tcp(here, '10.0.0.9', 81))).toBe(false);
  });
});

test('a connection that was cut is not taken up from its middle', () => {
  const ownChain = (dropMidstream: boolean) => {
    const { table } = renderFilter(index.snapshot(), 4, { ...defaultRenderOptions, dropMidstream });
    return table.chains.get(chainOf(rulesOf(table), 'calidb', 'ingress') ?? '') ?? [];
  };
  const rule = '-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP';
  expect(ownChain(true)).toContain(rule);
  expect(ownChain(false)).not.toContain(rule);
});
