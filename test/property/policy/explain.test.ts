import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import type { EndpointTrace } from '../../../src/policy/explain.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { answer } from '../../../src/policy/question.ts';
import { cluster, clusterEvents, endpointEvent, endpointText, node } from '../../support/cluster.ts';

const log = createLog('test', 'silent');

/** The rule that a trace ends with, as a reason names it. */
function lastRule({ tiers, profiles }: EndpointTrace): number | undefined {
  return (profiles.length > 0 ? profiles : tiers.at(-1)?.policies)?.at(-1)?.rules.at(-1)?.rule;
}

test('the answer from a slice of the cluster is the verdict from all of it, and the way there ends at its rule', () => {
  fc.assert(
    fc.property(cluster, (generated) => {
      const events = clusterEvents(generated);
      const index = new PolicyIndex(node, log);
      for (const event of [...events, ...generated.pods.map((pod) => endpointEvent(pod, node))]) index.apply(event);
      const policy = index.snapshot();
      for (const from of generated.pods) {
        for (const to of generated.pods.filter((pod) => pod !== from)) {
          for (const [family, port] of [
            [4, 80],
            [6, 53],
          ] as const) {
            const transport = { protocol: 'tcp' as const, port };
            const [source, destination] = [from, to].map((pod) => ({ namespace: pod.namespace, pod: pod.name }));
            if (!source || !destination) continue;
            const found = answer(events, { source, destination, transport, family }, log);
            for (const [pod, direction, side] of [
              [from, 'egress', found.source],
              [to, 'ingress', found.destination],
            ] as const) {
              const expected = evaluate(policy, {
                endpoint: endpointText(pod),
                direction,
                source: parseIp(from.addresses[family === 4 ? 0 : 1] ?? ''),
                destination: parseIp(to.addresses[family === 4 ? 0 : 1] ?? ''),
                protocol: 6,
                sourcePort: 40_000,
                destinationPort: port,
              });
              expect(side.trace?.verdict).toBe(expected.verdict);
              expect(side.trace?.reason).toEqual(expected.reason);
              if (side.trace && 'rule' in expected.reason) expect(lastRule(side.trace)).toBe(expected.reason.rule);
            }
          }
        }
      }
    }),
    { numRuns: 150 },
  );
});
