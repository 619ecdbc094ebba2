import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { clusterEvents, connections, endpointText, node } from '../../support/cluster.ts';
import { clusterNodeEvent, clusterPolicyEvent, policyWorld } from '../../support/cluster-policies.ts';
import { worldPermits } from '../../support/cluster-policy-oracle.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import { packetOf } from '../../support/packets.ts';

const log = createLog('test', 'silent');

test('the verdict is what policy.networking.k8s.io says, in whatever order the objects come', worldsTimeout, () => {
  let compared = 0;
  let denied = 0;
  fc.assert(
    fc.property(policyWorld, fc.infiniteStream(fc.nat(1000)), (world, random) => {
      const index = new PolicyIndex(node, log);
      const events = [
        ...clusterEvents(world),
        ...world.nodes.map(clusterNodeEvent),
        ...world.clusterPolicies.map(clusterPolicyEvent),
      ].map((event) => ({ event, at: random.next().value ?? 0 }));
      for (const { event } of events.sort((a, b) => a.at - b.at)) index.apply(event);
      const policy = index.snapshot();
      expect(index.problems()).toEqual([]);
      const local = world.pods.filter((pod) => policy.endpoints.has(endpointText(pod)));
      for (const connection of connections(world)) {
        for (const pod of local) {
          for (const direction of ['Ingress', 'Egress'] as const) {
            const own = direction === 'Ingress' ? connection.destination : connection.source;
            if (!pod.addresses.includes(own)) continue;
            const packet = {
              ...packetOf(connection),
              endpoint: endpointText(pod),
              direction: direction === 'Ingress' ? ('ingress' as const) : ('egress' as const),
            };
            const { verdict, reason } = evaluate(policy, packet);
            const expected = worldPermits(world, pod, direction, connection) ? 'allow' : 'deny';
            if (verdict !== expected) expect({ packet, verdict, reason }).toEqual({ packet, verdict: expected });
            compared++;
            if (expected === 'deny') denied++;
          }
        }
      }
    }),
    { numRuns: worlds(100) },
  );
  expect(denied).toBeGreaterThan(compared / 20);
  expect(denied).toBeLessThan(compared * 0.8);
});
