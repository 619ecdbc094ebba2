import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { ownAttributes } from '../../../src/bgp/advertisements.ts';
import { compile } from '../../../src/bgp/config.ts';
import { logLevelOf } from '../../../src/bgp/log-level.ts';
import { ObjectStore } from '../../../src/bgp/objects.ts';
import { announcerOf, excludeLabel, rangesOf, serviceOriginations } from '../../../src/bgp/services.ts';
import type { Event, Key } from '../../../src/datastore/store.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { type EndpointSlice, type Kind, type Node, parseResource, type Service } from '../../../src/model/kinds.ts';

const apiVersion = 'projectcalico.org/v3';
const configuration = (spec: object) =>
  parseResource('BGPConfiguration', { kind: 'BGPConfiguration', apiVersion, metadata: { name: 'default' }, spec });
const service = (spec: object, name = 'web'): Service =>
  parseResource('Service', { kind: 'Service', apiVersion, metadata: { name, namespace: 'shop' }, spec });
const slice = (addressType: string, endpoints: readonly object[], name = 'web-1', of = 'web'): EndpointSlice => {
  const spec = { service: of, addressType, endpoints };
  return parseResource('EndpointSlice', {
    kind: 'EndpointSlice',
    apiVersion,
    metadata: { name, namespace: 'shop' },
    spec,
  });
};
const on = (nodeName: string, conditions: object = { ready: true }) => ({
  addresses: ['10.1.0.1'],
  nodeName,
  conditions,
});

const ranges = {
  serviceClusterIPs: [{ cidr: '10.96.0.0/16' }, { cidr: 'fd96::/112' }],
  serviceExternalIPs: [{ cidr: '192.0.2.0/24' }, { cidr: '203.0.113.9/32' }],
  serviceLoadBalancerIPs: [{ cidr: '198.51.100.0/24' }, { cidr: '203.0.113.7/32' }],
};
const whole = ['10.96.0.0/16', '192.0.2.0/24', '198.51.100.0/24', 'fd96::/112'];

function announced(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  { spec = ranges, node = 'a', excluded = false }: { spec?: object; node?: string; excluded?: boolean } = {},
): string[] {
  return serviceOriginations(services, slices, rangesOf(configuration(spec)), { node, excluded });
}

/** Without the ranges that every node announces. */
const single = (...given: Parameters<typeof announced>) =>
  announced(...given).filter((prefix) => !whole.includes(prefix));

describe('ranges', () => {
  test('every node announces them as a whole, those of one address excepted', () => {
    expect(announced([], [])).toEqual(whole);
  });

  test('an excluded node announces nothing', () => {
    const local = service({ clusterIPs: ['10.96.0.5'], externalTrafficPolicy: 'Local' });
    expect(announced([local], [slice('IPv4', [on('a')])], { excluded: true })).toEqual([]);
  });

  test('without any, no service is announced', () => {
    const local = service({ clusterIPs: ['10.96.0.5'], externalTrafficPolicy: 'Local' });
    expect(announced([local], [slice('IPv4', [on('a')])], { spec: {} })).toEqual([]);
  });

  test('CALICO_ADVERTISE_CLUSTER_IPS stands in for serviceClusterIPs', () => {
    expect(rangesOf(configuration(ranges), '10.0.0.0/8, fd00::/8').cluster).toEqual(['10.0.0.0/8', 'fd00::/8']);
    expect(() => rangesOf(undefined, 'everything')).toThrow('CALICO_ADVERTISE_CLUSTER_IPS: "everything"');
  });
});

describe('a service', () => {
  const addresses = {
    type: 'LoadBalancer',
    clusterIPs: ['10.96.0.5', 'fd96::5'],
    externalIPs: ['192.0.2.5', '203.0.113.9', '192.0.3.5'],
    loadBalancerIPs: ['198.51.100.5', '203.0.113.7', '198.51.101.5'],
  };
  const local = service({ ...addresses, externalTrafficPolicy: 'Local' });
  const four = ['10.96.0.5/32', '192.0.2.5/32', '198.51.100.5/32', '203.0.113.7/32', '203.0.113.9/32'];

  test.each<[string, Service, EndpointSlice[], string[]]>([
    [
      'of cluster policy: only the addresses that are ranges',
      service(addresses),
      [],
      ['203.0.113.7/32', '203.0.113.9/32'],
    ],
    ['of local policy without endpoints', local, [], []],
    ['of local policy with an endpoint elsewhere', local, [slice('IPv4', [on('b')])], []],
    ['of local policy with an endpoint here', local, [slice('IPv4', [on('b'), on('a')])], four],
    ['of local policy with an endpoint that says nothing', local, [slice('IPv4', [on('a', {})])], four],
    ['of local policy with an endpoint that is not ready', local, [slice('IPv4', [on('a', { ready: false })])], []],
    [
      'of local policy with an endpoint that terminates',
      local,
      [slice('IPv4', [on('a', { ready: false, serving: true, terminating: true })])],
      [],
    ],
    ['each family by its own endpoints', local, [slice('IPv6', [on('a')])], ['fd96::5/128']],
    ['several slices', local, [slice('IPv4', [on('b')]), slice('IPv4', [on('a')], 'web-2')], four],
    ['slices of another service', local, [slice('IPv4', [on('a')], 'x-1', 'x')], []],
    ['slices of names', local, [slice('FQDN', [on('a')])], []],
    [
      'of local policy inside the cluster: its cluster addresses',
      service({ ...addresses, internalTrafficPolicy: 'Local' }),
      [slice('IPv4', [on('a')])],
      ['10.96.0.5/32', '203.0.113.7/32', '203.0.113.9/32'],
    ],
    ['that is headless', service({ externalIPs: ['203.0.113.9'] }), [], []],
    ['that is a name', service({ ...addresses, type: 'ExternalName' }), [], []],
  ])('%s', (_, one, slices, expected) => {
    expect(single([one], slices)).toEqual(expected);
  });

  test('load balancer addresses go out by themselves where aggregation is disabled, given an endpoint anywhere', () => {
    const spec = { ...ranges, serviceLoadBalancerAggregation: 'Disabled' };
    const of = (slices: EndpointSlice[]) => announced([service(addresses)], slices, { spec });
    const others = ['10.96.0.0/16', '192.0.2.0/24', '203.0.113.7/32', '203.0.113.9/32', 'fd96::/112'];
    expect(of([])).toEqual(others);
    expect(of([slice('IPv4', [on('b')])])).toEqual([...others, '198.51.100.5/32'].sort());
  });

  test('an address of two services stays while one has an endpoint here', () => {
    const shared = { clusterIPs: ['10.96.0.6'], externalIPs: ['192.0.2.5'], externalTrafficPolicy: 'Local' };
    expect(single([local, service(shared, 'other')], [slice('IPv4', [on('a')], 'o-1', 'other')])).toEqual([
      '10.96.0.6/32',
      '192.0.2.5/32',
    ]);
  });
});

test('the announcer’s name is the one that Kubernetes has, and its label is read', () => {
  const node = (spec: object, labels: object = {}) =>
    parseResource('Node', { kind: 'Node', apiVersion, metadata: { name: 'a', labels }, spec }) as Node;
  expect(announcerOf(node({}))).toEqual({ node: 'a', excluded: false });
  expect(announcerOf(node({ orchRefs: [{ orchestrator: 'k8s', nodeName: 'rack-a' }] })).node).toBe('rack-a');
  expect(announcerOf(node({}), 'ref').node).toBe('ref');
  expect(announcerOf(node({}, { [excludeLabel]: 'true' })).excluded).toBe(true);
  expect(announcerOf(node({}, { [excludeLabel]: 'false' })).excluded).toBe(false);
});

describe('the log level', () => {
  const named = (name: string, logSeverityScreen: string) =>
    parseResource('BGPConfiguration', {
      kind: 'BGPConfiguration',
      apiVersion,
      metadata: { name },
      spec: { logSeverityScreen },
    });
  const of = (objects: Parameters<typeof logLevelOf>[0], env = {}) => logLevelOf(objects, 'a', env, 'info');

  test('is that of the node’s own BGPConfiguration, the common one, or the process', () => {
    const nodeConfigurations = new Map([['a', named('node.a', 'Debug')]]);
    expect(of({ configuration: undefined, nodeConfigurations: new Map() })).toBe('info');
    expect(of({ configuration: named('default', 'Warning'), nodeConfigurations: new Map() })).toBe('warn');
    expect(of({ configuration: named('default', 'Warning'), nodeConfigurations })).toBe('debug');
    expect(
      of({ configuration: named('default', 'None'), nodeConfigurations: new Map() }, { MARGAY_LOG_LEVEL: 'info' }),
    ).toBe('info');
    expect(() => named('default', 'Loud')).toThrow(/logSeverityScreen: "Loud"/);
  });
});

describe('in the configuration of a node', () => {
  const put = (value: { kind: Kind; metadata: { name: string; namespace?: string } }): Event => {
    const { name, namespace } = value.metadata;
    const key = { type: value.kind, name, ...(namespace ? { namespace } : {}) } as Key;
    return { op: 'set', entry: { key, value, revision: '1' } } as Event;
  };
  const node = parseResource('Node', {
    kind: 'Node',
    apiVersion,
    metadata: { name: 'a' },
    spec: { bgp: { ipv4Address: '10.0.0.9/24' } },
  });
  const prepare = () => {
    const objects = new ObjectStore('a', createLog('test', 'silent'));
    const compiled = () => compile(objects, 'a', undefined)?.config ?? expect.fail('no configuration');
    return { objects, compiled };
  };
  const local = service({ clusterIPs: ['10.96.0.5'], externalTrafficPolicy: 'Local' });

  test('they are originations, with the communities of their prefix', () => {
    const { objects, compiled } = prepare();
    const prefixAdvertisements = [{ cidr: '10.96.0.0/16', communities: ['65000:7'] }];
    objects.apply(put(node));
    objects.apply(put(configuration({ ...ranges, prefixAdvertisements })));
    expect(compiled().originations).toEqual(whole);
    expect(ownAttributes(parseCidr('10.96.0.0/16'), compiled().advertisements).communities).toEqual([
      65000 * 65536 + 7,
    ]);
  });

  test('only what changes the announced prefixes asks for another configuration', () => {
    const { objects, compiled } = prepare();
    expect(objects.apply(put(node))).toBe(true);
    expect(objects.apply(put(local))).toBe(false);
    expect(objects.apply(put(slice('IPv4', [on('a')])))).toBe(false);
    expect(compiled().originations).toEqual([]);
    objects.apply(put(configuration(ranges)));
    expect(compiled().originations).toContain('10.96.0.5/32');
    expect(objects.apply(put(slice('IPv4', [on('a'), on('b')])))).toBe(false);
    expect(objects.apply(put(slice('IPv4', [on('b')])))).toBe(true);
    expect(compiled().originations).toEqual(whole);
    expect(objects.apply(put(slice('IPv4', [on('a')])))).toBe(true);
    expect(objects.apply({ op: 'delete', key: { type: 'Service', namespace: 'shop', name: 'web' } })).toBe(true);
    expect(compiled().originations).toEqual(whole);
    expect(objects.apply(put(local))).toBe(true);
    expect(objects.apply({ op: 'delete', key: { type: 'EndpointSlice', namespace: 'shop', name: 'web-1' } })).toBe(
      true,
    );
    expect(compiled().originations).toEqual(whole);
  });

  test('of its own BGPConfiguration come the port and the communities, and bindMode limits where it listens', () => {
    const { objects, compiled } = prepare();
    const own = parseResource('BGPConfiguration', {
      kind: 'BGPConfiguration',
      apiVersion,
      metadata: { name: 'node.a' },
      spec: { listenPort: 1179, prefixAdvertisements: [{ cidr: '10.0.0.0/8', communities: ['pods'] }] },
    });
    const communities = [{ name: 'pods', value: '65000:1' }];
    const prefixAdvertisements = [{ cidr: '0.0.0.0/0', communities: ['65000:2'] }];
    objects.apply(put(node));
    objects.apply(put(configuration({ listenPort: 180, communities, prefixAdvertisements, bindMode: 'NodeIP' })));
    expect(compiled()).toMatchObject({ listenPort: 180, listenAddresses: ['10.0.0.9'] });
    objects.apply(put(own));
    expect(compiled()).toMatchObject({
      listenPort: 1179,
      advertisements: [{ cidr: '10.0.0.0/8', communities: [65000 * 65536 + 1] }],
    });
    objects.apply({ op: 'delete', key: { type: 'BGPConfiguration', name: 'node.a' } });
    expect(compiled().listenPort).toBe(180);
  });
});
