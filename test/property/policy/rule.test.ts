import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { ruleWarnings } from '../../../src/policy/warnings.ts';
import { calicoPolicyEvent, endpointText, node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import { ruleMatches } from '../../support/rule-oracle.ts';
import { fieldEvents, fieldPackets, fieldRules, fieldSpec, fieldWorld } from '../../support/worlds/rules.ts';

const log = createLog('test', 'silent');
test(
  'every field of a rule restricts it as its reference says, in both directions, and no rule decides that is said to match nothing',
  worldsTimeout,
  () => {
    const verdicts = { allow: 0, deny: 0 };
    let warned = 0;
    fc.assert(
      fc.property(fieldRules, fc.constantFrom('ingress' as const, 'egress' as const), (rules, direction) => {
        const index = new PolicyIndex(node, log);
        for (const event of fieldEvents) index.apply(event);
        const types = [direction === 'ingress' ? 'Ingress' : 'Egress'];
        index.apply(calicoPolicyEvent('p', 'one', { types, [direction]: rules.map(fieldSpec) }));
        expect(index.problems()).toEqual([]);
        const policy = index.snapshot();
        const idle = ruleWarnings(policy.policies.get('one/p') ?? expect.fail('no policy'), false);
        warned += idle.length;
        for (const packet of fieldPackets) {
          const own = direction === 'ingress' ? packet.destination : packet.source;
          const pod = fieldWorld.pods.find(
            ({ namespace, addresses }) => namespace === 'one' && addresses.includes(own),
          );
          if (!pod) continue;
          const decided = rules.find((each) => ruleMatches(fieldWorld, 'one', each, packet));
          const expected = decided?.action === 'Allow' ? 'allow' : 'deny';
          const [source, destination] = [parseIp(packet.source), parseIp(packet.destination)];
          const endpoint = endpointText(pod);
          const found = evaluate(policy, { ...packet, source, destination, direction, endpoint });
          verdicts[expected]++;
          if (found.reason.by === 'policy')
            expect(idle.map(({ field }) => field)).not.toContain(`${direction}[${found.reason.rule}]`);
          if (found.verdict !== expected) expect({ packet, direction, found }).toEqual({ packet, direction, expected });
        }
      }),
      { numRuns: worlds(200) },
    );
    expect(Math.min(verdicts.allow, verdicts.deny)).toBeGreaterThan(1500);
    expect(warned).toBeGreaterThan(20);
  },
);
