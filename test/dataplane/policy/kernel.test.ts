import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import type { DesiredSet } from '../../../src/kernel/types.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import type { NodePolicy } from '../../../src/policy/ir.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { defaultRenderOptions, type RenderOptions, renderFilter } from '../../../src/policy/render.ts';
import {
  calicoEvent,
  calicoPolicyEvent,
  cluster,
  endpointEvent,
  endpointText,
  namespaceEvent,
  node,
  policyEvent,
} from '../../support/cluster.ts';
import type { Cluster, Pod } from '../../support/oracle.ts';
import { type Member, PodNetwork } from '../../support/pods.ts';
import type { Probe } from '../../support/traffic-agent.ts';

/* Rendered rules in a real kernel: what packets do there is what the evaluator says. */

const log = createLog('test', 'silent');
const ports = [53, 80, 85, 8080];
const vxlanPort = 4789;
const timeoutMs = 1000;
const podMembers: Member[] = [0, 1, 2].map((i) => ({
  name: `pod-${i}`,
  device: `calipod-${i}`,
  addresses: [`10.65.0.${i + 1}`, `fd00::${i + 1}`],
}));
const outside: Member = { name: 'outside', device: 'uplink', addresses: ['192.0.2.130', 'fd00::8'] };

const plainPods: Pod[] = podMembers.map(({ name, addresses }, i) => ({
  name,
  addresses,
  namespace: i === 2 ? 'two' : 'one',
  labels: { app: ['a', 'b', 'a'][i] ?? '' },
  ports: [{ name: 'web', protocol: 'TCP', port: i === 0 ? 80 : 8080 }],
}));
const plain: Cluster = { namespaces: { one: { tier: 'x' }, two: {} }, pods: plainPods, policies: [] };

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const network = new PodNetwork([...podMembers, outside], [...ports, vxlanPort]);
  const ipsets = createIpsets({ log, launcher: network.launcher });
  const iptables = {
    4: createIptables({ family: 4, backend, log, launcher: network.launcher }),
    6: createIptables({ family: 6, backend, log, launcher: network.launcher }),
  };

  beforeAll(() => network.start());
  afterAll(() => network.stop());

  async function load(policy: NodePolicy, options: RenderOptions = defaultRenderOptions): Promise<void> {
    const filters = { 4: renderFilter(policy, 4, options), 6: renderFilter(policy, 6, options) };
    const sets = new Map<string, DesiredSet>([...filters[4].sets, ...filters[6].sets]);
    await ipsets.applyUpdates(sets);
    for (const family of [4, 6] as const) await iptables[family].apply(new Map([['filter', filters[family].table]]));
    await ipsets.applyDeletions(sets);
  }

  /** The same without what the last test left behind. */
  async function reload(policy: NodePolicy): Promise<void> {
    await load(policy);
    await network.onNode('conntrack', '-F');
  }

  /** Every pod and the outside against each other: what happened, and what the evaluator expects. */
  async function matrix(policy: NodePolicy, pods: readonly Pod[]): Promise<[observed: string[], expected: string[]]> {
    const parties = [...pods, outside];
    const observed: string[] = [];
    const expected: string[] = [];
    const probes: Promise<void>[] = [];
    for (const from of parties) {
      for (const to of parties) {
        if (from === to) continue;
        for (const family of [0, 1] as const) {
          const source = parseIp(from.addresses[family] ?? '');
          const destination = parseIp(to.addresses[family] ?? '');
          const allowed = (packet: {
            protocol: number;
            destinationPort?: number;
            icmp?: { type: number; code: number };
          }) =>
            (
              [
                [from, 'egress'],
                [to, 'ingress'],
              ] as const
            ).every(
              ([party, direction]) =>
                !('namespace' in party) ||
                evaluate(policy, { ...packet, source, destination, direction, endpoint: endpointText(party) })
                  .verdict === 'allow',
            );
          // A busy machine may be late once; what is closed stays so.
          const record = (what: string, should: boolean, attempt: () => Promise<boolean>) => {
            const line = `${from.name} → ${destination} ${what}`;
            if (should) expected.push(line);
            const reached = attempt().then((first) => first || (should && attempt()));
            probes.push(reached.then((does) => void (does && observed.push(line))));
          };
          for (const [protocol, number] of [
            ['TCP', 6],
            ['UDP', 17],
          ] as const)
            for (const port of ports)
              record(`${protocol} ${port}`, allowed({ protocol: number, destinationPort: port }), () =>
                network.probe(from.name, { protocol, address: destination, port, timeoutMs }),
              );
          const echo =
            family === 0 ? { protocol: 1, icmp: { type: 8, code: 0 } } : { protocol: 58, icmp: { type: 128, code: 0 } };
          record('ICMP', allowed(echo), () => network.ping(from.name, destination, timeoutMs / 1000));
        }
      }
    }
    await Promise.all(probes);
    return [observed.sort(), expected.sort()];
  }

  function indexOf(events: readonly Event[]): PolicyIndex {
    const index = new PolicyIndex(node, log);
    for (const event of events) index.apply(event);
    return index;
  }

  function base({ namespaces, pods }: Cluster): Event[] {
    return [
      ...Object.entries(namespaces).map(([name, labels]) => namespaceEvent(name, labels)),
      ...pods.map((pod) => endpointEvent(pod)),
    ];
  }

  const samples = fc.sample(
    cluster.filter(({ pods, policies }) => pods.length >= 3 && policies.length >= 3),
    { numRuns: 6, seed: 5 },
  );
  test.each(samples.map((sample, i) => [i, { ...sample, pods: sample.pods.slice(0, 3) }] as const))(
    'generated cluster %i',
    async (_, sample) => {
      const policy = indexOf([...base(sample), ...sample.policies.map(policyEvent)]).snapshot();
      await reload(policy);
      const [observed, expected] = await matrix(policy, sample.pods);
      expect(observed).toEqual(expected);
    },
  );

  const allow = { action: 'Allow' };
  test.each<[string, object]>([
    ['no rules', { types: ['Ingress', 'Egress'] }],
    [
      'deny, log and pass in order',
      {
        types: ['Ingress', 'Egress'],
        ingress: [
          { action: 'Log' },
          { action: 'Deny', protocol: 'TCP', destination: { ports: [80] } },
          { action: 'Pass', protocol: 'TCP', destination: { ports: ['53:80'] } },
          { action: 'Allow', protocol: 'TCP' },
        ],
        egress: [{ action: 'Pass', source: { selector: "app == 'a'" } }, allow],
      },
    ],
    [
      'prefixes and their negations',
      {
        types: ['Ingress', 'Egress'],
        ingress: [
          {
            action: 'Allow',
            source: { nets: ['10.65.0.0/30', '192.0.2.0/24', 'fd00::/125'], notNets: ['10.65.0.2/32'] },
          },
          { action: 'Allow', protocol: 'UDP', source: { notNets: ['fd00::1/128', 'fd00::2/128', '192.0.2.0/24'] } },
        ],
        egress: [
          { action: 'Allow', destination: { nets: ['0.0.0.0/0', '::/0'], notNets: ['10.65.0.1/32', 'fd00::/127'] } },
        ],
      },
    ],
    [
      'ports, their negations and more than one multiport holds',
      {
        types: ['Ingress'],
        ingress: [
          {
            action: 'Allow',
            protocol: 'TCP',
            destination: { ports: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, '14:20', 53, '80:84'] },
          },
          { action: 'Allow', protocol: 'TCP', destination: { ports: ['web'], notPorts: [53] } },
          {
            action: 'Allow',
            protocol: 'UDP',
            destination: { notPorts: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, '14:20', 53, 8080] },
          },
          {
            action: 'Allow',
            protocol: 'UDP',
            source: { notPorts: [99], selector: "app == 'b'" },
            destination: { ports: [8080] },
          },
        ],
      },
    ],
    [
      'ICMP types and protocols negated',
      {
        types: ['Ingress', 'Egress'],
        ingress: [
          { action: 'Allow', protocol: 'ICMP', icmp: { type: 8, code: 0 }, source: { selector: "app == 'b'" } },
          { action: 'Allow', protocol: 'ICMPv6', notICMP: { type: 128 } },
          { action: 'Allow', notProtocol: 'TCP', ipVersion: 6, source: { notSelector: "app == 'b'" } },
        ],
        egress: [{ action: 'Allow', notProtocol: 'UDP' }],
      },
    ],
    [
      'namespaces and negated selectors',
      {
        types: ['Ingress'],
        ingress: [
          { action: 'Deny', source: { namespaceSelector: '!has(tier)', notSelector: "app == 'b'" } },
          { action: 'Allow', source: { namespaceSelector: 'all()' } },
        ],
      },
    ],
  ])('%s', async (_, spec) => {
    const policy = indexOf([...base(plain), calicoPolicyEvent('a', 'one', spec)]).snapshot();
    await reload(policy);
    const [observed, expected] = await matrix(policy, plainPods);
    expect(observed).toEqual(expected);
  });

  const deny = calicoPolicyEvent('deny', 'one', { types: ['Ingress', 'Egress'] });

  test('tiers, a global policy, network sets and service accounts', async () => {
    const rules = [
      { action: 'Deny', protocol: 'UDP', destination: { ports: [53] } },
      { action: 'Allow', source: { selector: "kind == 'partner'", namespaceSelector: 'global()' } },
      { action: 'Pass', source: { serviceAccounts: { selector: 'all()' } } },
      { action: 'Pass', source: { selector: "app == 'b'" } },
    ];
    const policy = indexOf([
      ...base(plain),
      calicoEvent('Tier', { name: 'security' }, { order: 10 }),
      calicoEvent('Tier', { name: 'audit' }, { order: 5, defaultAction: 'Pass' }),
      calicoEvent('GlobalNetworkPolicy', { name: 'watch' }, { tier: 'audit', ingress: [{ action: 'Log' }] }),
      calicoEvent(
        'GlobalNetworkPolicy',
        { name: 'guard' },
        { tier: 'security', namespaceSelector: "tier == 'x'", types: ['Ingress'], ingress: rules },
      ),
      calicoEvent(
        'GlobalNetworkSet',
        { name: 'partner', labels: { kind: 'partner' } },
        { nets: ['192.0.2.0/25', '192.0.2.130', 'fd00::8/125'] },
      ),
    ]).snapshot();
    await reload(policy);
    const [observed, expected] = await matrix(policy, plainPods);
    expect(observed).toEqual(expected);
    expect(observed).toContain('outside → 10.65.0.1 TCP 80');
    expect(observed).not.toContain('outside → 10.65.0.1 UDP 53');
    expect(observed).toContain('pod-1 → fd00::1 TCP 80');
    expect(observed).not.toContain('pod-2 → 10.65.0.1 TCP 80');
  });

  /** All of them get an answer, however late on a busy machine; or none of them does. */
  async function expectAnswers(expected: boolean, from: string, probes: readonly Partial<Probe>[]): Promise<void> {
    const common = { protocol: 'TCP', address: '', port: 80, timeoutMs: expected ? 15_000 : timeoutMs } as const;
    const reached = await Promise.all(probes.map((probe) => network.probe(from, { ...common, ...probe })));
    expect(reached).toEqual(probes.map(() => expected));
  }

  test.each(['DROP', 'ACCEPT'] as const)('the node reaches its pods always; they reach it if %s', async (action) => {
    const options = { ...defaultRenderOptions, endpointToHost: action };
    const gateway = [{ address: '169.254.1.1' }];
    await load(indexOf([...base(plain), deny]).snapshot(), options);
    await expectAnswers(true, 'node', [{ address: '10.65.0.1' }, { address: 'fd00::1' }]);
    await expectAnswers(false, 'pod-0', gateway);
    await load(indexOf(base(plain)).snapshot(), options);
    await expectAnswers(action === 'ACCEPT', 'pod-0', gateway);
    await expectAnswers(true, 'outside', gateway);
  });

  test('a pod that nobody knows yet is closed', async () => {
    const policy = indexOf(base({ ...plain, pods: plainPods.slice(1) })).snapshot();
    await reload(policy);
    const [observed, expected] = await matrix(policy, plainPods);
    expect(observed).toEqual(expected);
    expect(observed.some((line) => line.startsWith('pod-0'))).toBe(false);
    expect(observed.some((line) => line.startsWith('pod-1'))).toBe(true);
  });

  test('established connections go on when policy tightens, new ones do not come', async () => {
    await load(indexOf(base(plain)).snapshot());
    const kept = (keep: string) => ['10.65.0.2', 'fd00::2'].map((address) => ({ address, keep: keep + address }));
    await expectAnswers(true, 'pod-0', kept('old'));
    await load(indexOf([...base(plain), deny]).snapshot());
    await expectAnswers(false, 'pod-0', kept('new'));
    await expectAnswers(true, 'pod-0', kept('old'));
  });

  test("pods cannot send what looks like the node's tunnels", async () => {
    await load(indexOf(base(plain)).snapshot());
    const probes = (protocol: 'TCP' | 'UDP') =>
      outside.addresses.map((address) => ({ protocol, address, port: vxlanPort }));
    await expectAnswers(false, 'pod-0', probes('UDP'));
    await expectAnswers(true, 'pod-0', probes('TCP'));
  });

  test('the last policy leaves no rule and no set behind', async () => {
    await load({ endpoints: new Map(), policies: new Map(), profiles: new Map(), sets: new Map() });
    expect(await network.onNode('ipset', 'list', '-n')).toBe('');
    const saved = await network.onNode(`iptables-${backend}-save`, '-t', 'filter');
    expect(saved).not.toMatch(/^:cali-(tw|fw|p[io]|pr[io])-/m);
  });
});
