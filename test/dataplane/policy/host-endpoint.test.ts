import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Event } from '../../../src/datastore/store.ts';
import { openConntrack } from '../../../src/kernel/conntrack.ts';
import { RouteLookup } from '../../../src/kernel/rtnetlink/lookup.ts';
import { inNamespace } from '../../../src/kernel/setns.ts';
import { type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import { refuses } from '../../../src/policy/cut.ts';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { calicoEvent, node } from '../../support/cluster.ts';
import { baseEvents, indexOf, PolicyKernel, plain } from '../../support/policy-kernel.ts';

/* Host endpoints with real packets: the node, a host outside behind its device `uplink`, and pods. */

const options = {
  ...defaultRenderOptions,
  failsafeInbound: [{ protocol: 'tcp', port: 85 }],
  failsafeOutbound: [
    { protocol: 'udp', port: 85 },
    { protocol: 'tcp', port: 53, net: parseCidr('fd00::8/128') },
  ],
} as const;

const host = (interfaceName: string, more: object = {}): Event =>
  calicoEvent(
    'HostEndpoint',
    { name: `node-${interfaceName === '*' ? 'all' : interfaceName}`, labels: { role: 'edge' } },
    { node, interfaceName, ...more },
  );
const policy = (name: string, spec: object): Event =>
  calicoEvent('GlobalNetworkPolicy', { name }, { selector: "role == 'edge'", ...spec });
const allow = (...ports: number[]) => [{ action: 'Allow', protocol: 'TCP', destination: { ports } }];

const gateway = '169.254.1.1';
const [outside4, outside6] = ['192.0.2.130', 'fd00::8'];

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend);
  beforeAll(() => kernel.network.start());
  afterAll(() => kernel.network.stop());

  async function load(...events: Event[]): Promise<void> {
    await kernel.load(indexOf([...baseEvents(plain), ...events]).snapshot(), options);
    await kernel.network.onNode('conntrack', '-F');
  }

  type Probe = [from: string, address: string, protocol: 'TCP' | 'UDP', port: number];

  /** All of the first get an answer, none of the others. */
  async function expectOnly(open: readonly Probe[], closed: readonly Probe[]): Promise<void> {
    const ask = ([from, address, protocol, port]: Probe, timeoutMs: number) =>
      kernel.network.probe(from, { protocol, address, port, timeoutMs });
    const answers = await Promise.all([
      ...open.map((probe) => ask(probe, 15_000)),
      ...closed.map((probe) => ask(probe, 1000)),
    ]);
    expect(answers).toEqual([...open.map(() => true), ...closed.map(() => false)]);
  }

  /** What no host endpoint may touch: pods among each other, the node to its pods, and what is forwarded. */
  const untouched: Probe[] = [
    ['pod-0', '10.65.0.2', 'TCP', 80],
    ['pod-0', 'fd00::2', 'UDP', 53],
    ['node', '10.65.0.1', 'TCP', 80],
    ['node', 'fd00::1', 'TCP', 80],
    ['outside', '10.65.0.1', 'TCP', 80],
    ['outside', 'fd00::1', 'TCP', 80],
    ['pod-0', outside4, 'TCP', 80],
    ['pod-0', outside6, 'UDP', 80],
  ];

  test.each(['uplink', '*'])('%s without policies: only failsafe ports, and the rest as before', async (device) => {
    await load(host(device));
    await expectOnly(
      [
        ...untouched,
        ['outside', gateway, 'TCP', 85],
        ['node', outside4, 'UDP', 85],
        ['node', outside6, 'TCP', 53],
        ['node', '127.0.0.1', 'TCP', 80],
      ],
      [
        ['outside', gateway, 'TCP', 80],
        ['outside', gateway, 'UDP', 85],
        ['node', outside4, 'TCP', 80],
        ['node', outside4, 'TCP', 53],
        ['node', outside6, 'TCP', 85],
      ],
    );
  });

  test('another device than the one that is protected stays open', async () => {
    await load(host('other'));
    await expectOnly([...untouched, ['outside', gateway, 'TCP', 80], ['node', outside4, 'TCP', 80]], []);
  });

  test('policies decide by their rules, in both directions', async () => {
    await load(
      host('uplink'),
      policy('in', { order: 1, ingress: [...allow(80), { action: 'Deny', protocol: 'TCP' }], types: ['Ingress'] }),
      policy('late', { order: 2, ingress: allow(53), types: ['Ingress'] }),
      policy('out', {
        egress: [
          {
            action: 'Allow',
            protocol: 'TCP',
            destination: { nets: [`${outside4}/32`, `${outside6}/128`], ports: [8080] },
          },
        ],
        types: ['Egress'],
      }),
    );
    await expectOnly(
      [
        ...untouched,
        ['outside', gateway, 'TCP', 80],
        ['outside', gateway, 'TCP', 85],
        ['node', outside4, 'TCP', 8080],
        ['node', outside6, 'TCP', 8080],
      ],
      [
        ['outside', gateway, 'TCP', 53],
        ['outside', gateway, 'UDP', 80],
        ['node', outside4, 'TCP', 80],
        ['node', outside6, 'TCP', 80],
      ],
    );
  });

  test('profiles decide where no policy does, the built-in one allowing', async () => {
    await load(host('*', { profiles: ['projectcalico-default-allow'] }));
    await expectOnly([...untouched, ['outside', gateway, 'TCP', 80], ['node', outside6, 'TCP', 80]], []);
    await load(
      host('*', { profiles: ['projectcalico-default-allow'] }),
      policy('in', { ingress: allow(80), types: ['Ingress'] }),
    );
    await expectOnly(
      [...untouched, ['outside', gateway, 'TCP', 80], ['node', outside6, 'TCP', 80]],
      [['outside', gateway, 'TCP', 53]],
    );
  });

  test.each(['uplink', '*'])('with applyOnForward at %s, what is forwarded through it, too', async (device) => {
    await load(
      host(device),
      policy('in', { applyOnForward: true, ingress: allow(80), types: ['Ingress'] }),
      policy('out', { applyOnForward: true, egress: [{ action: 'Deny', protocol: 'UDP' }, { action: 'Pass' }] }),
    );
    await expectOnly(
      [
        ['outside', '10.65.0.1', 'TCP', 80],
        ['outside', 'fd00::1', 'TCP', 80],
        ['outside', gateway, 'TCP', 80],
        ['pod-0', outside4, 'TCP', 53],
        ['pod-0', outside6, 'TCP', 53],
        ['pod-0', '10.65.0.2', 'UDP', 53],
        ['node', '10.65.0.1', 'UDP', 53],
      ],
      [
        // Failsafe ports do not cover what is forwarded.
        ['outside', '10.65.0.1', 'TCP', 85],
        ['outside', 'fd00::1', 'UDP', 80],
        ['pod-0', outside4, 'UDP', 80],
        ['pod-0', outside6, 'UDP', 85],
      ],
    );
  });

  const early = { applyOnForward: true, order: 1 };

  test('doNotTrack decides before connections are tracked, both ways, and leaves the rest to others', async () => {
    const stateless = policy('stateless', {
      ...early,
      doNotTrack: true,
      ingress: [
        { action: 'Deny', protocol: 'TCP', destination: { ports: [8080, 85] } },
        ...allow(80),
        { action: 'Allow', protocol: 'UDP', source: { ports: [80] } },
      ],
      egress: [
        { action: 'Deny', protocol: 'UDP', destination: { ports: [8080, 85] } },
        { action: 'Allow', protocol: 'TCP', source: { ports: [80] } },
        { action: 'Allow', protocol: 'UDP', destination: { ports: [80] } },
      ],
    });
    const tracked = policy('tracked', {
      ingress: [...allow(8080), { action: 'Allow', protocol: 'UDP', destination: { ports: [53] } }],
      egress: [{ action: 'Allow', protocol: 'UDP', destination: { ports: [8080, 53] } }],
    });
    await load(host('uplink'), stateless, tracked);
    await expectOnly(
      [
        ['outside', gateway, 'TCP', 80],
        ['node', outside4, 'UDP', 80],
        ['node', outside6, 'UDP', 80],
        ['outside', gateway, 'UDP', 53],
        ['node', outside4, 'UDP', 53],
        // Failsafe ports of the host itself, in spite of the deny.
        ['outside', gateway, 'TCP', 85],
        ['node', outside4, 'UDP', 85],
        ['outside', '10.65.0.1', 'TCP', 53],
        ['pod-0', outside4, 'TCP', 53],
        ['pod-0', '10.65.0.2', 'TCP', 8080],
      ],
      [
        ['outside', gateway, 'TCP', 8080],
        ['node', outside4, 'UDP', 8080],
        ['outside', gateway, 'TCP', 53],
        ['outside', '10.65.0.1', 'TCP', 85],
        ['outside', 'fd00::1', 'TCP', 8080],
      ],
    );
    const connections = await kernel.network.onNode('conntrack', '-L', '-d', gateway);
    expect(connections).toMatch(/udp .*dport=53 /);
    expect(connections).toMatch(/tcp .*dport=85 /);
    expect(connections).not.toMatch(/dport=80 /);
  });

  test('preDNAT sees the destination as it was sent, wherever it leads', async () => {
    const nodePort = ['-p', 'tcp', '--dport', '9000', '-j', 'DNAT', '--to-destination', '10.65.0.1:80'];
    const nat = (how: string) =>
      kernel.network.onNode(`iptables-${backend}`, '-t', 'nat', how, 'PREROUTING', '-i', 'uplink', ...nodePort);
    await nat('-A');
    try {
      const closed = policy('closed', { applyOnForward: true, order: 2, ingress: [{ action: 'Deny' }] });
      const rules = (ports: number[]) =>
        policy('before', {
          ...early,
          preDNAT: true,
          ingress: [
            ...(ports.length > 0 ? allow(...ports) : []),
            { action: 'Deny', protocol: 'TCP', destination: { ports: [9000, 53, 85] } },
          ],
        });
      const profiles = ['projectcalico-default-allow'];
      await load(host('*', { profiles }), rules([9000]), closed);
      await expectOnly(
        [
          // Accepted early, so that nothing later asks the host endpoint again.
          ['outside', gateway, 'TCP', 9000],
          ['outside', gateway, 'TCP', 85],
          ['pod-0', outside4, 'TCP', 80],
          ['node', outside6, 'TCP', 80],
        ],
        [
          ['outside', '10.65.0.1', 'TCP', 80],
          ['outside', 'fd00::1', 'TCP', 80],
          ['outside', gateway, 'TCP', 53],
        ],
      );
      await load(host('uplink', { profiles }), rules([]));
      await expectOnly(
        [
          ['outside', '10.65.0.1', 'TCP', 80],
          ['outside', gateway, 'TCP', 80],
        ],
        [
          ['outside', gateway, 'TCP', 9000],
          ['outside', '10.65.0.1', 'TCP', 53],
          ['outside', 'fd00::1', 'TCP', 85],
        ],
      );
    } finally {
      await nat('-D');
    }
  });

  test('established connections that tightened policies of a host endpoint refuse are cut, and no others', async () => {
    const dropping = { ...options, dropMidstream: true };
    const profiles = ['projectcalico-default-allow'];
    const indexWith = (...events: Event[]) => indexOf([...baseEvents(plain), host('uplink', { profiles }), ...events]);
    await kernel.load(indexWith().snapshot(), dropping);
    const ways: readonly [from: string, address: string][] = [
      ['outside', gateway],
      ['outside', '10.65.0.1'],
      ['node', outside4],
      ['node', outside6],
      ['pod-0', outside4],
    ];
    const answers = (port: number, timeoutMs: number) =>
      Promise.all(
        ways.map(([from, address]) => {
          const keep = `${backend} ${from} ${address} ${port}`;
          return kernel.network.probe(from, { protocol: 'TCP', address, port, timeoutMs, keep });
        }),
      );
    const all = (open: boolean) => ways.map(() => open);
    expect([await answers(80, 15_000), await answers(8080, 15_000)]).toEqual([all(true), all(true)]);
    const closed = [{ action: 'Deny', protocol: 'TCP', destination: { ports: [80] } }, { action: 'Allow' }];
    const index = indexWith(policy('closed', { applyOnForward: true, ingress: closed, egress: closed }));
    await kernel.load(index.snapshot(), dropping);
    const { path } = kernel.network;
    const conntrack = inNamespace(path, () => openConntrack());
    const routes = inNamespace(path, () => new RouteLookup());
    onTestFinished(() => {
      conntrack.close();
      routes.close();
    });
    const own = new Set([parseIp(gateway), parseIp('fe80::1')]);
    for (const probe of ['fd00::8', outside4]) own.add(await sourceTo(probe));
    const refused = refuses(index.snapshot(), index.localAddresses(), own, {
      failsafes: { inbound: options.failsafeInbound, outbound: options.failsafeOutbound },
      ...{ interfacePrefix: 'cali', tunnelPorts: new Set<number>() },
      deviceOf: (address) => inNamespace(path, () => routes.route(address))?.device,
    });
    expect(await conntrack.deleteMatching([4, 6], refused)).toBeGreaterThanOrEqual(ways.length);
    expect(await answers(80, 1000)).toEqual(all(false));
    expect(await answers(8080, 15_000)).toEqual(all(true));
    expect(await conntrack.deleteMatching([4, 6], refused)).toBe(0);
  });

  /** The node's own address towards another. */
  async function sourceTo(address: string): Promise<Ip> {
    const [route] = JSON.parse(await kernel.network.onNode('ip', '-j', 'route', 'get', address)) as {
      prefsrc: string;
    }[];
    return parseIp(route?.prefsrc ?? '');
  }

  test('the last host endpoint leaves nothing behind', async () => {
    await load();
    const saved = await kernel.network.onNode(`iptables-${backend}-save`);
    expect(saved).not.toMatch(/cali-(fh|th|failsafe|from-host|to-host|from-hep|to-hep|PREROUTING)/);
    await expectOnly([...untouched, ['outside', gateway, 'TCP', 80]], []);
  });
});
