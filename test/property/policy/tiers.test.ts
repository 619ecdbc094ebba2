import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { endpointText, node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import { accepts } from '../../support/tier-oracle.ts';
import { tierEvents, tierWorld } from '../../support/worlds/tiers.ts';

const log = createLog('test', 'silent');
test(
  'tiers, orders, global policies and network sets decide as Calico says, in whatever order they come',
  worldsTimeout,
  () => {
    let denied = 0;
    let compared = 0;
    fc.assert(
      fc.property(tierWorld, fc.infiniteStream(fc.nat(1000)), (generated, random) => {
        const index = new PolicyIndex(node, log);
        const shuffled = tierEvents(generated)
          .map((event) => ({ event, at: random.next().value ?? 0 }))
          .sort((a, b) => a.at - b.at);
        for (const { event } of shuffled) {
          index.apply(event);
          index.snapshot();
        }
        expect(index.problems()).toEqual([]);
        const sources = [...generated.pods.map(({ address }) => address), '192.0.2.1', '192.0.2.2', '192.0.2.3'];
        for (const pod of generated.pods) {
          for (const source of sources) {
            const found = evaluate(index.snapshot(), {
              endpoint: endpointText(pod),
              direction: 'ingress',
              source: parseIp(source),
              destination: parseIp(pod.address),
              protocol: 6,
              sourcePort: 40_000,
              destinationPort: 80,
            });
            const expected = accepts(generated, pod, source) ? 'allow' : 'deny';
            if (found.verdict !== expected) expect({ pod, source, found }).toEqual({ pod, source, expected });
            compared++;
            if (expected === 'deny') denied++;
          }
        }
      }),
      { numRuns: worlds(400) },
    );
    expect(denied).toBeGreaterThan(compared / 20);
  },
);
