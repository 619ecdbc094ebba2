import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluateAtHost } from '../../../src/policy/host.ts';
import type { NodePolicy } from '../../../src/policy/ir.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { answer } from '../../../src/policy/question.ts';
import { defaultRenderOptions, type Filter, renderFilter } from '../../../src/policy/render.ts';
import { node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import { type HostPacket, hostPasses } from '../../support/host-oracle.ts';
import { traverse } from '../../support/netfilter.ts';
import { failsafe, hostAddresses, hostEvents, hostPackets, hostWorld } from '../../support/worlds/hosts.ts';

const log = createLog('test', 'silent');
const { here, far } = hostAddresses;
const tcp = (port: number) => ({ protocol: 6, sourcePort: 40_000, destinationPort: port });
const failsafes = {
  inbound: failsafe.ingress.map((port) => ({ protocol: 'tcp' as const, port })),
  outbound: failsafe.egress.map((port) => ({ protocol: 'tcp' as const, port })),
};

function evaluated(policies: NodePolicy, { direction, forwarded, port }: HostPacket): boolean {
  const [source, destination] = direction === 'egress' ? [here, far] : [far, here];
  const ends = { source: parseIp(source), destination: parseIp(destination) };
  const packet = { endpoint: 'HostEndpoint/h', direction, ...ends, ...tcp(port) };
  return evaluateAtHost(policies, packet, forwarded ? 'forwarded' : 'own', failsafes).verdict === 'allow';
}

const options = {
  ...defaultRenderOptions,
  failsafeInbound: failsafes.inbound,
  failsafeOutbound: failsafes.outbound,
};

/** The way of a packet through the rendered tables; forwarded ones come in by uplink or leave by it. */
function rendered({ table, early, sets }: Filter, { direction, forwarded, port }: HostPacket): boolean {
  const ingress = direction === 'ingress';
  const devices = {
    input: ingress ? 'uplink' : forwarded ? 'eth9' : '',
    output: ingress ? (forwarded ? 'eth9' : '') : 'uplink',
  };
  const [source, destination] = ingress ? [far, here] : [here, far];
  const packet = { source, destination, forwarded, ...tcp(port), ...devices };
  const received = ingress || forwarded;
  const steps = [
    [early.raw, received ? 'cali-PREROUTING' : 'cali-OUTPUT'],
    ...(received ? [[early.mangle, 'cali-PREROUTING'] as const] : []),
    [table, forwarded ? 'cali-FORWARD' : ingress ? 'cali-INPUT' : 'cali-OUTPUT'],
  ] as const;
  // Another's mark opens nothing.
  let mark = 0x30000;
  for (const [{ chains }, entry] of steps) {
    if (!chains.has(entry)) continue;
    const way = traverse({ chains, insertions: new Map() }, sets, entry, { ...packet, mark });
    if (way.end === 'DROP') return false;
    mark = way.mark;
  }
  return true;
}

test('at host endpoints the evaluator, the rendered tables and explain decide as Calico says', worldsTimeout, () => {
  let denied = 0;
  let compared = 0;
  fc.assert(
    fc.property(hostWorld, fc.infiniteStream(fc.nat(1000)), (generated, random) => {
      const index = new PolicyIndex(node, log);
      const events = hostEvents(generated);
      const shuffled = events.map((event) => ({ event, at: random.next().value ?? 0 })).sort((a, b) => a.at - b.at);
      for (const { event } of shuffled) index.apply(event);
      expect(index.problems()).toEqual([]);
      const policies = index.snapshot();
      const filter = renderFilter(policies, 4, options);
      for (const packet of hostPackets) {
        const expected = hostPasses(generated, packet);
        // What `*` forwards passes it twice.
        const turned = packet.direction === 'ingress' ? 'egress' : 'ingress';
        const twice = packet.forwarded && generated.device === '*';
        const through = expected && (!twice || hostPasses(generated, { ...packet, direction: turned }));
        const found = { evaluated: evaluated(policies, packet), rendered: rendered(filter, packet) };
        if (found.evaluated !== expected || found.rendered !== through)
          expect({ packet, ...found }).toEqual({ packet, evaluated: expected, rendered: through });
        compared++;
        if (!expected) denied++;
        if (packet.forwarded || packet.port === 443) continue;
        const [source, destination] =
          packet.direction === 'egress'
            ? [{ host: node }, { address: parseIp(far) }]
            : [{ address: parseIp(far) }, { host: node }];
        const told = answer(events, { source, destination, transport: { protocol: 'tcp', port: packet.port } }, log);
        expect(told.verdict).toBe(expected ? 'allow' : 'deny');
        expect(told.hosts.map(({ verdict }) => verdict)).toEqual([told.verdict]);
      }
    }),
    { numRuns: worlds(120) },
  );
  expect(denied).toBeGreaterThan(compared / 10);
  expect(denied).toBeLessThan((compared * 9) / 10);
});
