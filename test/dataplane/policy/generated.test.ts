import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { kernelWorlds, worldsTimeout } from '../../support/generated.ts';
import type { Member } from '../../support/pods.ts';
import { indexOf, PolicyKernel } from '../../support/policy-kernel.ts';
import { type RawPacket, RawPackets } from '../../support/raw-packets.ts';
import { told } from '../../support/told.ts';
import { failsafe, hostAddresses } from '../../support/worlds/hosts.ts';
import { outsideAddresses, triedWorlds } from '../../support/worlds/trials.ts';

/* Generated worlds of every kind of policy in a real kernel: there passes what their truth tables and explain say. */

const members: readonly Member[] = [
  ...[0, 1, 2, 3, 4].map((i) => ({
    name: `pod-${i}`,
    device: `calipod-${i}`,
    addresses: [`10.65.0.${i + 1}`, `fd00::${i + 1}`],
  })),
  { name: 'outside', device: 'uplink', addresses: outsideAddresses },
];
const failsafes = (ports: readonly number[]) => ports.map((port) => ({ protocol: 'tcp' as const, port }));
const options = {
  ...defaultRenderOptions,
  failsafeInbound: failsafes(failsafe.ingress),
  failsafeOutbound: failsafes(failsafe.egress),
};
/** About how many packets of a world explain is asked. */
const questions = 24;
const line = ({ source, destination, protocol, destinationPort, icmp }: RawPacket) =>
  `${source} > ${destination} ${protocol} ${destinationPort ?? JSON.stringify(icmp ?? {})}`;

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend, members);
  const { network } = kernel;
  let packets: RawPackets | undefined;

  beforeAll(async () => {
    await network.build();
    await network.onNode('ip', 'address', 'add', `${hostAddresses.here}/32`, 'dev', 'uplink');
    packets = new RawPackets(network, [hostAddresses.here]);
    await packets.acquaint();
  });
  afterAll(async () => {
    packets?.close();
    await network.stop();
  });

  test.each(Object.entries(triedWorlds))('%s', worldsTimeout, async (_, arbitrary) => {
    const found = { passed: 0, stopped: 0, explained: 0 };
    for (const world of fc.sample(arbitrary, { numRuns: kernelWorlds(5), seed: 12 })) {
      const index = indexOf(world.events);
      expect(index.problems()).toEqual([]);
      await kernel.reload(index.snapshot(), options);
      const arrived = (await packets?.deliver(world.trials.map(({ packet }) => packet))) ?? [];
      // Odd, so that it does not meet the same ports again and again.
      const stride = Math.ceil(world.trials.length / questions) | 1;
      for (const [at, { packet, expected }] of world.trials.entries()) {
        const asked = at % stride === 0 ? told(world.events, packet, [hostAddresses.here]) : undefined;
        const agree = arrived[at] === expected && (asked ?? expected) === expected;
        if (!agree)
          expect({ packet: line(packet), arrived: arrived[at], asked, events: world.events }).toEqual({ expected });
        found[expected ? 'passed' : 'stopped']++;
        if (asked !== undefined) found.explained++;
      }
    }
    const all = found.passed + found.stopped;
    expect(Math.min(found.passed, found.stopped)).toBeGreaterThan(all / 20);
    expect(found.explained).toBeGreaterThan(all / 50);
  });
});
