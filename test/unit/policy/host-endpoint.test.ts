import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { ownDevices } from '../../../src/felix/calc/devices.ts';
import { rawTable } from '../../../src/felix/calc/raw.ts';
import { joined } from '../../../src/felix/calc/table.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { resourceProblems } from '../../../src/model/kinds.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { type Failsafe, formatFailsafe, parseFailsafe } from '../../../src/policy/render/failsafe.ts';
import { renderFilter } from '../../../src/policy/render.ts';
import {
  calicoEvent,
  calicoPolicyEvent,
  endpointEvent,
  namespaceEvent,
  node,
  policyEvent,
} from '../../support/cluster.ts';

const pod = { name: 'web', namespace: 'one', labels: {}, addresses: ['10.0.0.1'], ports: [] };
const world = [namespaceEvent('one', {}), endpointEvent(pod)];
const host = (name: string, spec: object): Event =>
  calicoEvent('HostEndpoint', { name, labels: { role: 'edge' } }, { node, ...spec });
const policy = (name: string, spec: object): Event =>
  calicoEvent('GlobalNetworkPolicy', { name }, { selector: "role == 'edge'", ...spec });

function snapshot(...events: Event[]) {
  const index = new PolicyIndex(node, createLog('test', 'silent'));
  for (const event of [...world, ...events]) index.apply(event);
  return { policy: index.snapshot(), problems: index.problems() };
}

test('global policies select host endpoints by their labels; namespaced and Kubernetes ones never do', () => {
  const { policy: found } = snapshot(
    host('a', { interfaceName: 'eth0' }),
    policy('own', { types: ['Ingress'] }),
    policy('all', { selector: 'all()', types: ['Egress'], applyOnForward: true }),
    calicoPolicyEvent('calico', 'one', { selector: 'all()' }),
    policyEvent({ name: 'kubernetes', namespace: 'one', spec: { podSelector: {} } }),
  );
  expect(found.endpoints.get('HostEndpoint/a')).toEqual({
    endpoint: 'HostEndpoint/a',
    interfaceName: 'eth0',
    profiles: [],
    tiers: [{ tier: 'default', defaultAction: 'deny', ingress: ['own'], egress: ['all'] }],
    host: {
      devices: ['eth0'],
      forward: [{ tier: 'default', defaultAction: 'deny', ingress: [], egress: ['all'] }],
      untracked: [],
      preDnat: [],
    },
  });
});

test('its policies and profiles decide like those of pods, and no profile denies', () => {
  const packet = {
    endpoint: 'HostEndpoint/a',
    direction: 'ingress' as const,
    source: parseIp('192.0.2.1'),
    destination: parseIp('192.0.2.2'),
    protocol: 6,
    destinationPort: 80,
  };
  const bare = snapshot(host('a', { interfaceName: '*' }));
  expect(evaluate(bare.policy, packet)).toMatchObject({ verdict: 'deny', reason: { by: 'noProfile' } });
  const profiles = ['projectcalico-default-allow'];
  const open = snapshot(host('a', { interfaceName: '*', profiles }));
  expect(evaluate(open.policy, packet)).toMatchObject({ verdict: 'allow', reason: { by: 'profile' } });
  const closed = snapshot(host('a', { interfaceName: '*', profiles }), policy('in', { types: ['Ingress'] }));
  expect(evaluate(closed.policy, packet)).toMatchObject({ verdict: 'deny', reason: { by: 'tierDefault' } });
});

test('expected addresses are members of sets, also of other nodes and without a device', () => {
  const { policy: found } = snapshot(
    host('a', { expectedIPs: ['192.0.2.9'] }),
    calicoEvent(
      'HostEndpoint',
      { name: 'b', labels: { role: 'edge' } },
      { node: 'far', interfaceName: 'eth0', expectedIPs: ['fd00::9'] },
    ),
    calicoEvent(
      'GlobalNetworkPolicy',
      { name: 'g' },
      { ingress: [{ action: 'Allow', source: { selector: "role == 'edge'" } }] },
    ),
  );
  expect([...found.endpoints.keys()]).toEqual(['WorkloadEndpoint/one/node--1-k8s-web-eth0']);
  expect([...found.sets.values()].map(({ members }) => [...members])).toEqual([['192.0.2.9/32', 'fd00::9/128']]);
});

describe('without the name of a device', () => {
  const devices = (found: Record<string, string[]>) =>
    new Map(Object.entries(found).map(([device, list]) => [device, new Set(list.map((net) => parseCidr(net)))]));
  const given = (index: PolicyIndex) => index.snapshot().endpoints.get('HostEndpoint/a')?.host?.devices;

  test('those that have an expected address are meant, as addresses come and go; never the loopback device', () => {
    const index = new PolicyIndex(node, createLog('test', 'silent'));
    index.setDevices(devices({ eth0: ['192.0.2.1/32', 'fd00::1/128'], eth1: ['192.0.2.9/32'], lo: ['192.0.2.9/32'] }));
    index.apply(host('a', { expectedIPs: ['192.0.2.9', 'fd00::1'] }));
    expect(given(index)).toEqual(['eth0', 'eth1']);
    const before = index.snapshot();
    index.setDevices(devices({ eth0: ['fd00::1/128'], eth1: ['192.0.2.9/32'] }));
    expect(index.snapshot()).toBe(before);
    index.setDevices(devices({ eth1: ['192.0.2.9/32'] }));
    expect(given(index)).toEqual(['eth1']);
    expect(renderFilter(index.snapshot(), 4).table.chains.get('cali-from-host-endpoint')).toEqual([
      '-i eth1 -g cali-fh-eth1',
    ]);
    index.setDevices(new Map());
    expect(given(index)).toBeUndefined();
  });

  test('a device that another names is claimed by both', () => {
    const index = new PolicyIndex(node, createLog('test', 'silent'));
    index.setDevices(devices({ eth0: ['192.0.2.1/32'] }));
    for (const event of [host('a', { expectedIPs: ['192.0.2.1'] }), host('b', { interfaceName: 'eth0' })])
      index.apply(event);
    expect(index.problems().map(({ key }) => key)).toEqual(['HostEndpoint/a', 'HostEndpoint/b']);
  });

  test('addresses of pods are none of the node, and one device may have several', () => {
    const found = ownDevices(
      [
        { device: 'eth0', address: parseIp('192.0.2.1') },
        { device: 'cali123', address: parseIp('169.254.1.1') },
        { device: 'eth0', address: parseIp('fd00::1') },
      ],
      'cali',
    );
    expect(found).toEqual(new Map([['eth0', new Set(['192.0.2.1/32', 'fd00::1/128'])]]));
  });
});

describe('before the filter table', () => {
  const all = host('a', { interfaceName: '*' });
  const untracked = policy('u', { doNotTrack: true, applyOnForward: true, ingress: [{ action: 'Deny' }] });
  const preDnat = policy('d', { preDNAT: true, applyOnForward: true, ingress: [{ action: 'Allow' }] });

  test('there is nothing as long as no policy asks for it', () => {
    const { early, table } = renderFilter(snapshot(all, policy('p', { applyOnForward: true })).policy, 4);
    expect([early.raw.chains.size, early.mangle.chains.size]).toEqual([0, 0]);
    expect(table.chains.get('cali-FORWARD')?.[0]).toBe('-j MARK --set-xmark 0x0/0x30000');
    expect(table.chains.get('cali-INPUT')?.[1]).toBe('-j MARK --set-xmark 0x0/0x30000');
  });

  test('their chains are in their tables alone, and no tier of theirs denies what no rule decides', () => {
    const { policy: found } = snapshot(all, untracked, preDnat, policy('p', { ingress: [{ action: 'Allow' }] }));
    expect(found.endpoints.get('HostEndpoint/a')?.tiers).toEqual([
      { tier: 'default', defaultAction: 'deny', ingress: ['p'], egress: [] },
    ]);
    const { early, table } = renderFilter(found, 4);
    const policies = (chains: ReadonlyMap<string, unknown>) =>
      [...chains.keys()].filter((name) => /^cali-pi-/.test(name));
    expect([table, early.raw, early.mangle].map(({ chains }) => policies(chains))).toEqual([
      ['cali-pi-p'],
      ['cali-pi-u'],
      ['cali-pi-d'],
    ]);
    for (const { chains } of [early.raw, early.mangle])
      expect(chains.get('cali-fh-any-interface-at-all')?.at(-1)).toBe('-m mark --mark 0x10000/0x10000 -j RETURN');
  });

  test('marks are cleared before they mean anything, and kept where they do', () => {
    const only = renderFilter(snapshot(all, preDnat).policy, 4);
    expect(only.early.raw.chains.get('cali-PREROUTING')).toEqual(['-j MARK --set-xmark 0x0/0x30000']);
    expect(only.table.chains.get('cali-FORWARD')?.[0]).toBe('-j MARK --set-xmark 0x0/0x20000');
    // What the host itself sends has passed nothing that clears.
    expect(only.table.chains.get('cali-OUTPUT')?.[1]).toBe('-j MARK --set-xmark 0x0/0x30000');
    const both = renderFilter(snapshot(all, untracked).policy, 4);
    expect(both.early.raw.chains.get('cali-OUTPUT')?.[0]).toBe('-j MARK --set-xmark 0x0/0x30000');
    expect(both.table.chains.get('cali-OUTPUT')?.[1]).toBe('-m mark --mark 0x10000/0x10000 -j ACCEPT');
  });

  test('they come after what pods may not send, in the chain that both share', () => {
    const { raw } = renderFilter(snapshot(all, untracked).policy, 4).early;
    const shared = joined(rawTable(4, 'cali'), raw);
    expect(shared.chains.get('cali-PREROUTING')?.slice(0, 2)).toEqual([
      '-i cali+ -j cali-from-wl-raw',
      '-j MARK --set-xmark 0x0/0x30000',
    ]);
    expect(shared.insertions).toEqual(
      new Map([
        ['PREROUTING', ['-j cali-PREROUTING']],
        ['OUTPUT', ['-j cali-OUTPUT']],
      ]),
    );
    expect(joined(rawTable(4, 'cali'), renderFilter(snapshot().policy, 4).early.raw)).toEqual(rawTable(4, 'cali'));
  });
});

test('of two that claim a device the first by name has it, and both are reported', () => {
  const { policy: found, problems } = snapshot(
    host('b', { interfaceName: 'eth0', profiles: ['projectcalico-default-allow'] }),
    host('a', { interfaceName: 'eth0' }),
  );
  expect(problems.map(({ key }) => key).sort()).toEqual(['HostEndpoint/a', 'HostEndpoint/b']);
  const { chains } = renderFilter(found, 4).table;
  expect(chains.get('cali-from-host-endpoint')).toEqual(['-i eth0 -g cali-fh-eth0']);
  expect(chains.get('cali-fh-eth0')?.at(-2)).not.toContain('profile');
  expect(chains.get('cali-fh-eth0')?.join(' ')).not.toContain('cali-pri-');
});

test('a device of its own without policies for forwarding is not subject to those of all devices', () => {
  const forwarding = policy('f', { selector: "zone == 'b'", applyOnForward: true, types: ['Ingress'] });
  const all = calicoEvent('HostEndpoint', { name: 'all', labels: { zone: 'b' } }, { node, interfaceName: '*' });
  const { chains } = renderFilter(snapshot(host('a', { interfaceName: 'eth0' }), all, forwarding).policy, 4).table;
  expect(chains.get('cali-from-hep-forward')?.[0]).toBe('-i eth0 -g cali-fhfw-eth0');
  expect(chains.get('cali-fhfw-eth0')).toEqual([]);
  expect(chains.has('cali-to-hep-forward')).toBe(false);
});

test('without host endpoints there is no chain of theirs', () => {
  const { chains } = renderFilter(snapshot().policy, 4).table;
  expect([...chains.keys()].filter((name) => /hep|host-endpoint|failsafe/.test(name))).toEqual([]);
});

describe('failsafe ports', () => {
  test('are read as they are written', () => {
    const failsafe: fc.Arbitrary<Failsafe> = fc.record(
      {
        protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
        port: fc.integer({ min: 1, max: 65535 }),
        net: fc.constantFrom(parseCidr('10.0.0.0/8'), parseCidr('fd00::/8'), parseCidr('::/0')),
      },
      { requiredKeys: ['protocol', 'port'] },
    );
    fc.assert(
      fc.property(fc.array(failsafe), (list) => {
        expect(parseFailsafe(formatFailsafe(list), 'x')).toEqual(list);
      }),
    );
    expect(parseFailsafe('22, UDP:68,tcp:10.0.0.1/8:80', 'x')).toEqual([
      { protocol: 'tcp', port: 22 },
      { protocol: 'udp', port: 68 },
      { protocol: 'tcp', port: 80, net: '10.0.0.0/8' },
    ]);
  });

  test.each(['', '0', '70000', 'icmp:8', 'tcp:', 'tcp:22,', 'tcp:10.0.0.0/40:22'])('%j is refused', (text) => {
    expect(() => parseFailsafe(text, 'x')).toThrow(InputError);
  });
});

test.each([
  [{ node }, 'interfaceName'],
  [{ interfaceName: 'eth0' }, 'node'],
  [{ node, interfaceName: 'not a device' }, 'interfaceName'],
  [{ node, expectedIPs: ['10.0.0.0/8'] }, 'expectedIPs[0]'],
])('%j is refused', (spec, field) => {
  const found = resourceProblems('HostEndpoint', { metadata: { name: 'a' }, spec });
  expect(found.map((problem) => problem.field)).toEqual([`HostEndpoint.spec.${field}`]);
});
