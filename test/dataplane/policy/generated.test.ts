import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { answer } from '../../../src/policy/question.ts';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { node } from '../../support/cluster.ts';
import { kernelWorlds, worldsTimeout } from '../../support/generated.ts';
import type { Member } from '../../support/pods.ts';
import { indexOf, PolicyKernel } from '../../support/policy-kernel.ts';
import { type RawPacket, RawPackets } from '../../support/raw-packets.ts';
import { until } from '../../support/wait.ts';
import { failsafe, hostAddresses } from '../../support/worlds/hosts.ts';
import { outsideAddresses, type TriedWorld, triedWorlds } from '../../support/worlds/trials.ts';

/* Generated worlds of every kind of policy in a real kernel: there passes what their truth tables and explain say. */

const log = createLog('test', 'silent');
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
const transports: Readonly<Record<number, 'tcp' | 'udp' | 'sctp'>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/** What explain says; undefined for a packet that cannot be written as its question. */
function told({ events }: TriedWorld, packet: RawPacket): boolean | undefined {
  const { protocol, destinationPort: port, icmp, sourcePort } = packet;
  const named = transports[protocol];
  if (named ? sourcePort !== 40_000 : icmp?.code !== 0) return undefined;
  const end = (address: string) => (address === hostAddresses.here ? { host: node } : { address: parseIp(address) });
  const [source, destination] = [end(packet.source), end(packet.destination)];
  const transport = named && port !== undefined ? { protocol: named, port } : ({ protocol: 'icmp' } as const);
  return answer(events, { source, destination, transport }, log).verdict === 'allow';
}

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
    await until(() => everybodyHears(), { within: 20_000, what: 'without policy all packets arrive' });
  });
  afterAll(async () => {
    packets?.close();
    await network.stop();
  });

  /** Who has never spoken to a neighbour has to ask for it first. */
  async function everybodyHears(): Promise<boolean> {
    const sent = members.flatMap(({ addresses, name }) =>
      addresses.flatMap((source) =>
        [...members.filter((each) => each.name !== name).map((each) => each.addresses), [hostAddresses.here]]
          .flatMap((list) => list.filter((destination) => destination.includes(':') === source.includes(':')))
          .flatMap((to) => [
            [source, to],
            [to, source],
          ])
          .map(([from = '', to = '']) => ({
            source: from,
            destination: to,
            protocol: 17,
            sourcePort: 9,
            destinationPort: 9,
          })),
      ),
    );
    return (await packets?.deliver(sent))?.every((arrived) => arrived) === true;
  }

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
        const asked = at % stride === 0 ? told(world, packet) : undefined;
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
