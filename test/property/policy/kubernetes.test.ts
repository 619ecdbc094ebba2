import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { cluster, clusterEvents, connections, endpointText, node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import { permits } from '../../support/oracle.ts';
import { packetOf } from '../../support/packets.ts';

const log = createLog('test', 'silent');

test('the verdict is what the Kubernetes specification says', worldsTimeout, () => {
  let compared = 0;
  fc.assert(
    fc.property(cluster, (generated) => {
      const index = new PolicyIndex(node, log);
      for (const event of clusterEvents(generated)) index.apply(event);
      const policy = index.snapshot();
      expect(index.problems()).toEqual([]);
      const local = generated.pods.filter((pod) => policy.endpoints.has(endpointText(pod)));
      for (const connection of connections(generated)) {
        for (const pod of local) {
          for (const direction of ['Ingress', 'Egress'] as const) {
            const own = direction === 'Ingress' ? connection.destination : connection.source;
            if (!pod.addresses.includes(own)) continue;
            const packet = { ...packetOf(connection), endpoint: endpointText(pod), direction: lower(direction) };
            const { verdict, reason } = evaluate(policy, packet);
            const expected = permits(generated, pod, direction, connection) ? 'allow' : 'deny';
            if (verdict !== expected) expect({ packet, verdict, reason }).toEqual({ packet, verdict: expected });
            compared++;
          }
        }
      }
    }),
    { numRuns: worlds(400) },
  );
  expect(compared).toBeGreaterThan(10_000);
});

function lower(direction: 'Ingress' | 'Egress'): 'ingress' | 'egress' {
  return direction === 'Ingress' ? 'ingress' : 'egress';
}
