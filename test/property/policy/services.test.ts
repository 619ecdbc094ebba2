import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { endpointText, node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import {
  serviceAllows,
  serviceEvents,
  servicePackets,
  servicePod,
  serviceWorld,
} from '../../support/worlds/services.ts';

const log = createLog('test', 'silent');
const numbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

test('rules that name services match what their slices hold, in whatever order the objects come', worldsTimeout, () => {
  let allowed = 0;
  let denied = 0;
  fc.assert(
    fc.property(serviceWorld, fc.boolean(), (world, late) => {
      const index = new PolicyIndex(node, log);
      const { policy, rest } = serviceEvents(world);
      for (const event of late ? [policy, ...rest] : [...rest, policy]) index.apply(event);
      expect(index.problems()).toEqual([]);
      for (const packet of servicePackets) {
        const { other, protocol, port, direction } = packet;
        const own = other.includes(':') ? 'fd00::1' : '10.65.0.1';
        const expected = serviceAllows(world, packet) ? 'allow' : 'deny';
        const { verdict } = evaluate(index.snapshot(), {
          endpoint: endpointText(servicePod),
          direction,
          source: parseIp(direction === 'ingress' ? other : own),
          destination: parseIp(direction === 'ingress' ? own : other),
          protocol: numbers[protocol],
          sourcePort: 40_000,
          destinationPort: port,
        });
        if (verdict !== expected) expect({ ...packet, verdict }).toEqual({ ...packet, verdict: expected });
        if (expected === 'allow') allowed++;
        else denied++;
      }
    }),
    { numRuns: worlds(150) },
  );
  expect(allowed).toBeGreaterThan((allowed + denied) / 20);
});
