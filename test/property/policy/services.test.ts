import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { calicoEvent, endpointEvent, endpointText, namespaceEvent, node, sliceEvent } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';

const log = createLog('test', 'silent');
const four = ['10.65.0.2', '10.65.0.3', '192.0.2.1'];
const six = ['fd00::2', 'fd00::3', 'fd00:1::1'];
const pod = { name: 'pod', namespace: 'one', labels: {}, addresses: ['10.65.0.1', 'fd00::1'], ports: [] };
const numbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

const port = fc.record({
  protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
  port: fc.constantFrom(53, 80),
});
const slice = fc.record({
  namespace: fc.constantFrom('one', 'one', 'two'),
  service: fc.constantFrom('a', 'b'),
  addresses: fc.oneof(fc.subarray(four, { minLength: 1 }), fc.subarray(six, { minLength: 1 })),
  ports: fc.uniqueArray(port, { maxLength: 3, selector: (each) => JSON.stringify(each) }),
});
const rule = fc.record(
  {
    action: fc.constantFrom('Allow', 'Allow', 'Deny', 'Pass'),
    name: fc.constantFrom('a', 'a', 'b', 'none'),
    namespace: fc.constantFrom('one', 'two'),
  },
  { requiredKeys: ['action', 'name'] },
);
const rules = fc.array(rule, { minLength: 1, maxLength: 3 });

/** The verdict as the documentation of Calico has it: the first rule whose service the other end is behind. */
test('rules that name services match what their slices hold, in whatever order the objects come', worldsTimeout, () => {
  let allowed = 0;
  let denied = 0;
  fc.assert(
    fc.property(
      fc.array(slice, { minLength: 2, maxLength: 5 }),
      rules,
      rules,
      fc.boolean(),
      (slices, ingress, egress, late) => {
        const refer = ({ name, namespace }: { name: string; namespace?: string }) => ({
          services: { name, ...(namespace !== undefined && { namespace }) },
        });
        const spec = {
          types: ['Ingress', 'Egress'],
          ingress: ingress.map((each) => ({ action: each.action, source: refer(each) })),
          egress: egress.map((each) => ({ action: each.action, destination: refer(each) })),
        };
        const policy = calicoEvent('NetworkPolicy', { name: 'p', namespace: 'one' }, spec);
        const all = slices.map((each, i) =>
          sliceEvent(each.namespace, each.service, each.addresses, each.ports, `s${i}`),
        );
        const index = new PolicyIndex(node, log);
        for (const event of [
          namespaceEvent('one', {}),
          endpointEvent(pod),
          ...(late ? [policy, ...all] : [...all, policy]),
        ])
          index.apply(event);
        expect(index.problems()).toEqual([]);
        for (const other of [...four, ...six])
          for (const protocol of ['TCP', 'UDP', 'SCTP'] as const)
            for (const number of [53, 80])
              for (const direction of ['ingress', 'egress'] as const) {
                const own = other.includes(':') ? 'fd00::1' : '10.65.0.1';
                const hit = (direction === 'ingress' ? ingress : egress).find((each) =>
                  slices.some(
                    (behind) =>
                      behind.service === each.name &&
                      behind.namespace === (each.namespace ?? 'one') &&
                      behind.addresses.includes(other) &&
                      (direction === 'ingress' ||
                        behind.ports.some((open) => open.protocol === protocol && open.port === number)),
                  ),
                );
                // Pass leads to the namespace's profile, which allows.
                const expected = hit && hit.action !== 'Deny' ? 'allow' : 'deny';
                const { verdict } = evaluate(index.snapshot(), {
                  endpoint: endpointText(pod),
                  direction,
                  source: parseIp(direction === 'ingress' ? other : own),
                  destination: parseIp(direction === 'ingress' ? own : other),
                  protocol: numbers[protocol],
                  sourcePort: 40_000,
                  destinationPort: number,
                });
                if (verdict !== expected) expect({ other, protocol, number, direction, verdict }).toEqual(expected);
                if (expected === 'allow') allowed++;
                else denied++;
              }
      },
    ),
    { numRuns: worlds(150) },
  );
  expect(allowed).toBeGreaterThan((allowed + denied) / 20);
});
