import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openConntrack } from '../../../src/kernel/conntrack.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { type Ip, parseIp } from '../../../src/model/address.ts';
import { refuses } from '../../../src/policy/cut.ts';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { calicoEvent, calicoPolicyEvent, policyEvent, sliceEvent } from '../../support/cluster.ts';
import {
  baseEvents,
  indexOf,
  outside,
  PolicyKernel,
  plain,
  plainPods,
  vxlanPort,
} from '../../support/policy-kernel.ts';
import type { Probe } from '../../support/traffic-agent.ts';

/* Rendered rules in a real kernel: what packets do there is what the evaluator says. */

const timeoutMs = 1000;

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend);
  const { network } = kernel;

  beforeAll(() => network.start());
  afterAll(() => network.stop());

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
    const policy = indexOf([...baseEvents(plain), calicoPolicyEvent('a', 'one', spec)]).snapshot();
    await kernel.reload(policy);
    const [observed, expected] = await kernel.matrix(policy, plainPods);
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
      ...baseEvents(plain),
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
    await kernel.reload(policy);
    const [observed, expected] = await kernel.matrix(policy, plainPods, ['TCP', 'UDP', 'SCTP']);
    expect(observed).toEqual(expected);
    expect(observed).toContain('outside → 10.65.0.1 TCP 80');
    expect(observed).not.toContain('outside → 10.65.0.1 UDP 53');
    expect(observed).toContain('pod-1 → fd00::1 TCP 80');
    expect(observed).toContain('pod-1 → fd00::1 SCTP 80');
    expect(observed).not.toContain('pod-2 → fd00::1 SCTP 80');
    expect(observed).not.toContain('pod-2 → 10.65.0.1 TCP 80');
  });

  test('services: their endpoints, with their ports on the way there', async () => {
    const policy = indexOf([
      ...baseEvents(plain),
      sliceEvent('one', 'web', ['10.65.0.2', '192.0.2.130'], [{ port: 80 }, { protocol: 'UDP', port: 53 }], 'web-4'),
      sliceEvent('one', 'web', ['fd00::2'], [{ port: 8080 }], 'web-6'),
      calicoPolicyEvent('services', 'one', {
        egress: [{ action: 'Allow', destination: { services: { name: 'web' } } }],
      }),
      calicoPolicyEvent('from', 'two', {
        ingress: [{ action: 'Allow', source: { services: { name: 'web', namespace: 'one' } } }],
      }),
    ]).snapshot();
    await kernel.reload(policy);
    const [observed, expected] = await kernel.matrix(policy, plainPods);
    expect(observed).toEqual(expected);
    expect(observed.filter((line) => line.startsWith('pod-0'))).toEqual([
      'pod-0 → 10.65.0.2 TCP 80',
      'pod-0 → 10.65.0.2 UDP 53',
      'pod-0 → 192.0.2.130 TCP 80',
      'pod-0 → 192.0.2.130 UDP 53',
      'pod-0 → fd00::2 TCP 8080',
    ]);
    expect(observed).toContain('outside → 10.65.0.3 ICMP');
    expect(observed).not.toContain('outside → fd00::3 ICMP');
  });

  /** All of them get an answer, however late on a busy machine; or none of them does. */
  async function expectAnswers(expected: boolean, from: string, probes: readonly Partial<Probe>[]): Promise<void> {
    const common = { protocol: 'TCP', address: '', port: 80, timeoutMs: expected ? 15_000 : timeoutMs } as const;
    const reached = await Promise.all(probes.map((probe) => network.probe(from, { ...common, ...probe })));
    expect(reached).toEqual(probes.map(() => expected));
  }

  test('replies come in where nothing else does', async () => {
    const policy = policyEvent({ name: 'p', namespace: 'one', spec: { podSelector: {}, egress: [{}] } });
    await kernel.reload(indexOf([...baseEvents(plain), policy]).snapshot());
    const two = ['10.65.0.3', 'fd00::3'];
    const transports = ['TCP', 'UDP', 'SCTP'] as const;
    await expectAnswers(
      true,
      'pod-0',
      transports.flatMap((protocol) => two.map((address) => ({ protocol, address }))),
    );
    expect(await Promise.all(two.map((address) => network.ping('pod-0', address, 15)))).toEqual([true, true]);
    await expectAnswers(
      false,
      'pod-2',
      transports.flatMap((protocol) => ['10.65.0.1', 'fd00::1'].map((address) => ({ protocol, address }))),
    );
  });

  test.each(['DROP', 'ACCEPT'] as const)('the node reaches its pods always; they reach it if %s', async (action) => {
    const options = { ...defaultRenderOptions, endpointToHost: action };
    const gateway = [{ address: '169.254.1.1' }];
    await kernel.load(indexOf([...baseEvents(plain), deny]).snapshot(), options);
    await expectAnswers(true, 'node', [{ address: '10.65.0.1' }, { address: 'fd00::1' }]);
    await expectAnswers(false, 'pod-0', gateway);
    await kernel.load(indexOf(baseEvents(plain)).snapshot(), options);
    await expectAnswers(action === 'ACCEPT', 'pod-0', gateway);
    await expectAnswers(true, 'outside', gateway);
  });

  test('a pod reaches itself by way of a service whatever its policy, and nobody else does', async () => {
    await kernel.load(indexOf([...baseEvents(plain), deny]).snapshot());
    // As kube-proxy does it.
    const rules = [
      ['PREROUTING', '-d', '10.96.0.1', '-p', 'tcp', '-j', 'DNAT', '--to-destination', '10.65.0.1'],
      ['POSTROUTING', '-s', '10.65.0.1', '-d', '10.65.0.1', '-j', 'MASQUERADE'],
    ];
    const nat = async (how: string) => {
      for (const rule of rules) await network.onNode(`iptables-${backend}`, '-w', '-t', 'nat', how, ...rule);
    };
    await nat('-A');
    onTestFinished(() => nat('-D'));
    await expectAnswers(true, 'pod-0', [{ address: '10.96.0.1' }]);
    await expectAnswers(false, 'pod-2', [{ address: '10.96.0.1' }]);
  });

  test('a pod that nobody knows yet is closed', async () => {
    const policy = indexOf(baseEvents({ ...plain, pods: plainPods.slice(1) })).snapshot();
    await kernel.reload(policy);
    const [observed, expected] = await kernel.matrix(policy, plainPods);
    expect(observed).toEqual(expected);
    expect(observed.some((line) => line.startsWith('pod-0'))).toBe(false);
    expect(observed.some((line) => line.startsWith('pod-1'))).toBe(true);
  });

  test('established connections go on when policy tightens, new ones do not come', async () => {
    await kernel.load(indexOf(baseEvents(plain)).snapshot());
    const kept = (keep: string) => ['10.65.0.2', 'fd00::2'].map((address) => ({ address, keep: keep + address }));
    await expectAnswers(true, 'pod-0', kept('old'));
    await kernel.load(indexOf([...baseEvents(plain), deny]).snapshot());
    await expectAnswers(false, 'pod-0', kept('new'));
    await expectAnswers(true, 'pod-0', kept('old'));
  });

  test('connections that a tightened policy refuses are cut, and no others', async () => {
    const options = { ...defaultRenderOptions, dropMidstream: true };
    await kernel.load(indexOf(baseEvents(plain)).snapshot(), options);
    const kept = (port: number) =>
      ['10.65.0.2', 'fd00::2'].map((address) => ({ address, port, keep: `cut${port}${address}` }));
    await expectAnswers(true, 'pod-0', [...kept(80), ...kept(8080)]);
    await expectAnswers(true, 'node', kept(80));
    const some = calicoPolicyEvent('some', 'one', {
      selector: "app == 'b'",
      ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [8080] } }],
    });
    const index = indexOf([...baseEvents(plain), some]);
    await kernel.load(index.snapshot(), options);
    await expectAnswers(true, 'pod-0', kept(80));
    const conntrack = inNamespace(network.path, () => openConntrack());
    onTestFinished(() => conntrack.close());
    const own = new Set([parseIp('169.254.1.1'), ...(await nodeAddresses())]);
    const cut = await conntrack.deleteMatching([4, 6], refuses(index.snapshot(), index.localAddresses(), own));
    expect(cut).toBeGreaterThanOrEqual(2);
    await expectAnswers(false, 'pod-0', kept(80));
    await expectAnswers(true, 'pod-0', kept(8080));
    await expectAnswers(true, 'node', kept(80));
    expect(await conntrack.deleteMatching([4, 6], refuses(index.snapshot(), index.localAddresses(), own))).toBe(0);
  });

  async function nodeAddresses(): Promise<Ip[]> {
    const links = JSON.parse(await network.onNode('ip', '-j', 'addr')) as { addr_info: { local: string }[] }[];
    return links.flatMap(({ addr_info: found }) => found.map(({ local }) => parseIp(local)));
  }

  test("pods cannot send what looks like the node's tunnels", async () => {
    await kernel.load(indexOf(baseEvents(plain)).snapshot());
    const probes = (protocol: 'TCP' | 'UDP') =>
      outside.addresses.map((address) => ({ protocol, address, port: vxlanPort }));
    await expectAnswers(false, 'pod-0', probes('UDP'));
    await expectAnswers(true, 'pod-0', probes('TCP'));
  });

  test('the last policy leaves no rule and no set behind', async () => {
    await kernel.load({ endpoints: new Map(), policies: new Map(), profiles: new Map(), sets: new Map() });
    expect(await network.onNode('ipset', 'list', '-n')).toBe('');
    const saved = await network.onNode(`iptables-${backend}-save`, '-t', 'filter');
    expect(saved).not.toMatch(/^:cali-(tw|fw|p[io]|pr[io])-/m);
  });
});
