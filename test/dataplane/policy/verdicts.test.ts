import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { ClusterMirror } from '../../../src/felix/explain/mirror.ts';
import { DeniedPackets } from '../../../src/felix/flow-log/denied.ts';
import type { Flow } from '../../../src/felix/flow-log/flow.ts';
import { FlowLog } from '../../../src/felix/flow-log/log.ts';
import { VerdictPlaces } from '../../../src/felix/flow-log/places.ts';
import { readChain, readCounters } from '../../../src/kernel/iptables/counters.ts';
import { takesRule } from '../../../src/kernel/iptables/support.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { openNflog } from '../../../src/kernel/nflog-socket.ts';
import type { Family } from '../../../src/model/address.ts';
import { tellingRule, verdictGroup, verdictLimit } from '../../../src/policy/render/verdict.ts';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { calicoPolicyEvent } from '../../support/cluster.ts';
import { baseEvents, indexOf, PolicyKernel, plain } from '../../support/policy-kernel.ts';
import { until } from '../../support/wait.ts';

/* What the kernel tells of verdicts, and how it counts them. */

const log = createLog('test', 'silent');
const events = [
  ...baseEvents(plain),
  calicoPolicyEvent('closed', 'one', {
    selector: "app == 'b'",
    types: ['Ingress'],
    ingress: [
      { action: 'Allow', protocol: 'TCP', destination: { ports: [80] } },
      { action: 'Deny', protocol: 'TCP', destination: { ports: [53, 85] } },
    ],
  }),
];

describe('in the kernel', () => {
  const kernel = new PolicyKernel('nft');
  const { network } = kernel;
  const policy = indexOf(events).snapshot();

  beforeAll(async () => {
    await network.start();
    await kernel.load(policy, { ...defaultRenderOptions, verdictLogs: { denied: true, allowed: true } });
  });
  afterAll(() => network.stop());

  /** A flow log of the node, from now on. */
  function watch(): FlowLog {
    const pods = new ClusterMirror();
    pods.consume({ op: 'events', events });
    const flows = new FlowLog({
      open: () => inNamespace(network.path, () => openNflog(verdictGroup)),
      wanted: () => true,
      places: new VerdictPlaces(() => policy),
      podAt: (address) => pods.podAt(address),
      ...{ clock: systemClock, log },
    });
    const stop = new AbortController();
    const running = flows.run(stop.signal);
    onTestFinished(async () => {
      stop.abort();
      await running;
    });
    return flows;
  }

  const probe = (address: string, port: number, protocol: 'TCP' | 'UDP' = 'TCP') =>
    network.probe('pod-0', { protocol, address, port, timeoutMs: 300 });
  const told = (flows: FlowLog, wanted: (flow: Flow) => boolean) =>
    until(() => [...flows.recent()].find(wanted), { within: 10_000, what: 'the verdict' });

  test('each verdict comes with the rule that made it', async () => {
    const flows = watch();
    for (const [address, family] of [
      ['10.65.0.2', 4],
      ['fd00::2', 6],
    ] as const) {
      expect(await probe(address, 80)).toBe(true);
      expect(await probe(address, 85)).toBe(false);
      expect(await probe(address, 8080, 'UDP')).toBe(false);
      const of = (verdict: Flow['verdict'], port: number) =>
        told(
          flows,
          (flow) =>
            flow.verdict === verdict &&
            flow.destination.port === port &&
            flow.direction === 'ingress' &&
            flow.destination.address === address,
        );
      const title = 'NetworkPolicy.projectcalico.org one/closed';
      const reason = { by: 'policy', tier: 'default', policy: title };
      expect(await of('allow', 80)).toMatchObject({
        protocol: 6,
        source: { namespace: 'one', pod: 'pod-0', port: expect.any(Number) },
        destination: { namespace: 'one', pod: 'pod-1' },
        reason: { ...reason, rule: 0 },
      });
      expect(await of('deny', 85)).toMatchObject({ protocol: 6, reason: { ...reason, rule: 1 } });
      expect(await of('deny', 8080)).toMatchObject({ protocol: 17, reason: { by: 'tierDefault', tier: 'default' } });
      const out = await told(
        flows,
        (flow) => flow.direction === 'egress' && flow.source.address.includes(':') === (family === 6),
      );
      expect(out).toMatchObject({ verdict: 'allow', reason: { by: 'profile', rule: 0 } });
    }
    expect(flows.state()).toMatchObject({ lost: 0 });
  });

  test('an established connection is told once', async () => {
    const flows = watch();
    const kept = { protocol: 'TCP', address: '10.65.0.2', port: 80, timeoutMs: 1000, keep: 'told' } as const;
    for (let i = 0; i < 3; i++) expect(await network.probe('pod-0', kept)).toBe(true);
    expect(await probe('10.65.0.2', 85)).toBe(false);
    await told(flows, ({ destination }) => destination.port === 85);
    expect(
      [...flows.recent()].filter(({ destination, direction }) => destination.port === 80 && direction === 'ingress'),
    ).toHaveLength(1);
  });

  test('of a flood the kernel tells only some', async () => {
    const flows = watch();
    await Promise.all([...Array(4 * verdictLimit.burst).keys()].map(() => probe('10.65.0.2', 53)));
    expect(await probe('fd00::2', 53)).toBe(false);
    await told(flows, ({ destination }) => destination.port === 53 && destination.address === 'fd00::2');
    const of4 = [...flows.recent()].filter(
      ({ destination }) => destination.port === 53 && destination.address === '10.65.0.2',
    );
    expect(of4.length).toBeGreaterThan(0);
    expect(of4.length).toBeLessThan(4 * verdictLimit.burst);
  });

  test('what is denied is counted for its rule', async () => {
    const denied = new DeniedPackets(new VerdictPlaces(() => policy));
    const look = async () => {
      const read = async (family: Family) =>
        [family, await readCounters({ family, backend: 'nft', launcher: network.launcher })] as const;
      denied.look(new Map(await Promise.all([read(4), read(6)])));
      return new Map(denied.totals().map(({ policy: place, packets }) => [place, packets]));
    };
    await look();
    for (const address of ['10.65.0.2', 'fd00::2']) expect(await probe(address, 85, 'TCP')).toBe(false);
    expect(await probe('10.65.0.2', 8080, 'UDP')).toBe(false);
    const counted = await look();
    // A busy machine may send a SYN again.
    const place = 'default|NetworkPolicy.projectcalico.org one/closed';
    expect(counted.get(`${place}|1|deny`)).toBeGreaterThanOrEqual(2);
    expect(counted.get(`${place}|-1|deny`)).toBeGreaterThanOrEqual(1);
    expect(await look()).toEqual(counted);
    const options = { family: 4, backend: 'nft', launcher: network.launcher } as const;
    const chain = 'cali-pi-one/closed';
    const all = await readCounters(options);
    expect(await readChain(chain, options)).toEqual(all.get(chain));
    expect(await readChain('cali-pi-nowhere', options)).toEqual([]);
  });

  test.each(['legacy', 'nft'] as const)(
    'iptables-%s says whether it takes such rules, and keeps nothing',
    async (backend) => {
      const options = { backend, launcher: network.launcher };
      expect(await takesRule(tellingRule('try'), options)).toBe(true);
      expect(await takesRule('-m limit --limit 10/sec -j NOSUCHTARGET', options)).toBe(false);
      expect(await network.onNode(`iptables-${backend}-save`)).not.toContain('cali-try');
    },
  );
});
