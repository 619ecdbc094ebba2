import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { liveLine } from '../../../src/felix/explain/live.ts';
import { ClusterMirror } from '../../../src/felix/explain/mirror.ts';
import { ruleHash } from '../../../src/kernel/iptables/rules.ts';
import type { DesiredTable } from '../../../src/kernel/types.ts';
import { parseIp } from '../../../src/model/address.ts';
import { explain } from '../../../src/policy/explain.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { decidingLines } from '../../../src/policy/render/lines.ts';
import { defaultRenderOptions, FilterRenderer } from '../../../src/policy/render.ts';
import { answerAny, resolveService } from '../../../src/policy/service-question.ts';
import {
  cluster,
  clusterEvents,
  endpointEvent,
  endpointText,
  keyOf,
  node,
  serviceEvent,
  sliceEvent,
} from '../../support/cluster.ts';
import { traverse } from '../../support/netfilter.ts';

const log = createLog('test', 'silent');

/** As if read from a kernel where the n-th rule of a chain has counted n packets of ten octets. */
function rulesOf({ chains }: DesiredTable, chain: string) {
  const rules = chains.get(chain) ?? [];
  return rules.map((text, at) => ({ hash: ruleHash(chain, text), text, packets: at, bytes: 10 * at }));
}

test('the rule that is named for a verdict is the one that the kernel decides by', () => {
  const by = { policy: 0, tierDefault: 0, profile: 0, noProfile: 0 };
  fc.assert(
    fc.property(cluster, fc.boolean(), (generated, told) => {
      const index = new PolicyIndex(node, log);
      for (const event of clusterEvents(generated)) index.apply(event);
      for (const pod of generated.pods) index.apply(endpointEvent(pod, node));
      const policy = index.snapshot();
      const verdictLogs = { denied: told, allowed: told };
      const renderer = new FilterRenderer({ ...defaultRenderOptions, verdictLogs });
      for (const pod of generated.pods)
        for (const other of generated.pods.filter((each) => each !== pod))
          for (const [family, port] of [
            [4, 80],
            [6, 53],
          ] as const) {
            const [own, far] = [pod, other].map((each) => parseIp(each.addresses[family === 4 ? 0 : 1] ?? ''));
            if (!own || !far) continue;
            const packet = { source: far, destination: own, protocol: 6, sourcePort: 40_000, destinationPort: port };
            const trace = explain(policy, { ...packet, endpoint: endpointText(pod), direction: 'ingress' });
            const { table, sets } = renderer.render(policy, family);
            const device = `cali${pod.name}`;
            const { decided } = traverse(table, sets, 'cali-to-wl-dispatch', { ...packet, input: 'x', output: device });
            const lines = decidingLines(policy, endpointText(pod), family, trace);
            if (!lines || !decided) throw new Error('no verdict');
            expect(lines.chain).toBe(decided.chain);
            expect(lines.texts).toContain(table.chains.get(decided.chain)?.[decided.at]);
            if (lines.texts.length === 1) {
              const live = liveLine(lines, rulesOf(table, lines.chain));
              expect(live).toMatchObject({ line: decided.at + 1, packets: decided.at, bytes: 10 * decided.at });
            }
            by[trace.reason.by as keyof typeof by]++;
          }
    }),
    { numRuns: 40 },
  );
  expect(Math.min(by.policy, by.tierDefault, by.profile)).toBeGreaterThan(10);
});

test('the answer from what the mirror gives is that from the whole cluster', () => {
  fc.assert(
    fc.property(cluster, (generated) => {
      const slice = sliceEvent(
        'web',
        'one',
        generated.pods.flatMap(({ addresses }) => addresses.slice(0, 1)),
        [{ name: 'web', protocol: 'TCP', port: 80 }],
      );
      const service = serviceEvent('web', 'one', { clusterIP: '10.96.0.1', ports: [{ name: 'web', port: 8000 }] });
      const events = [...clusterEvents(generated), slice, service];
      const mirror = new ClusterMirror();
      // What comes and goes again leaves nothing.
      const gone = events.map((event) => ({ op: 'delete' as const, key: keyOf(event) }));
      mirror.consume({ op: 'events', events: [...events, ...gone] });
      expect(mirror.about({ namespace: 'one', pod: 'pod-0' })).toEqual([]);
      mirror.consume({ op: 'events', events });
      const ends = [
        ...generated.pods.map((pod) => ({ namespace: pod.namespace, pod: pod.name })),
        { address: parseIp('192.0.2.130') },
        { address: parseIp(generated.pods[0]?.addresses[0] ?? '10.0.0.9') },
      ];
      for (const source of ends)
        for (const destination of ends) {
          const question = { source, destination, transport: { protocol: 'tcp', port: 80 }, family: 4 } as const;
          const about = mirror.about(source, destination);
          expect(about.length).toBeLessThanOrEqual(events.length);
          expect(answerAny(about, question, log)).toEqual(answerAny(events, question, log));
        }
      // A service leads to the same endpoints, by its name and by its address.
      const source = { namespace: generated.pods[0]?.namespace ?? '', pod: 'pod-0' };
      const named = { source, destination: { namespace: 'web', service: 'one' }, port: 'web' };
      const byAddress = {
        source,
        destination: { address: parseIp('10.96.0.1') },
        transport: { protocol: 'tcp', port: 8000 },
      } as const;
      for (const question of [named, byAddress]) {
        const target = resolveService(mirror.about(source, question.destination), question);
        expect(target?.endpoints).toHaveLength(generated.pods.length);
        expect(target).toEqual(resolveService(events, question));
      }
    }),
    { numRuns: 12 },
  );
});
