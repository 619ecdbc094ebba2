import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { type Event, keyText } from '../../../src/datastore/store.ts';
import type { NodePolicy } from '../../../src/policy/ir.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { FilterRenderer, renderFilter } from '../../../src/policy/render.ts';
import { cluster, clusterEvents, keyOf, node } from '../../support/cluster.ts';

const log = createLog('test', 'silent');

/** The objects of several clusters one after the other, with deletions, repetitions and objects that turn unreadable. */
const history: fc.Arbitrary<Event[]> = fc
  .tuple(fc.array(cluster, { minLength: 1, maxLength: 3 }), fc.infiniteStream(fc.nat(1000)))
  .map(([clusters, random]) => {
    const next = () => random.next().value ?? 0;
    const events = clusters.flatMap(clusterEvents).flatMap((event): Event[] => {
      const key = keyOf(event);
      const remove: Event = { op: 'delete', key };
      const spoil: Event = { op: 'invalid', entry: { key, error: new Error('unreadable') } };
      const choices = [[event], [event], [event], [event, event], [event, remove], [remove, event], [event, spoil]];
      return choices[next() % choices.length] ?? [event];
    });
    return events
      .map((event) => ({ event, at: next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ event }) => event);
  });

function lastOfEach(events: readonly Event[]): Event[] {
  const last = new Map<string, Event>();
  for (const event of events) last.set(keyText(keyOf(event)), event);
  return [...last.values()].filter(({ op }) => op !== 'delete');
}

function fromScratch(events: readonly Event[]): PolicyIndex {
  const index = new PolicyIndex(node, log);
  for (const event of events) index.apply(event);
  return index;
}

test('the result depends on the objects that exist, whatever led there', () => {
  fc.assert(
    fc.property(history, fc.boolean(), (events, reverse) => {
      const index = new PolicyIndex(node, log);
      for (const [i, event] of events.entries()) {
        index.apply(event);
        if (i % 3 === 0) index.snapshot();
      }
      const existing = lastOfEach(events);
      const fresh = fromScratch(reverse ? existing.reverse() : existing);
      expect(index.snapshot()).toEqual(fresh.snapshot());
      expect(new Set(index.problems())).toEqual(new Set(fresh.problems()));
    }),
    { numRuns: 300 },
  );
});

test('what did not change keeps its identity, and rendering step by step equals rendering afresh', () => {
  fc.assert(
    fc.property(history, (events) => {
      const index = new PolicyIndex(node, log);
      const renderer = new FilterRenderer();
      let before: NodePolicy | undefined;
      for (const event of events) {
        index.apply(event);
        const after = index.snapshot();
        if (before) expectShared(before, after);
        before = after;
        index.apply(event);
        expect(index.snapshot()).toBe(after);
        for (const family of [4, 6] as const) {
          const stepwise = renderer.render(after, family);
          expect(renderer.render(after, family)).toBe(stepwise);
          expect(stepwise).toEqual(renderFilter(after, family));
        }
      }
    }),
    { numRuns: 60 },
  );
});

/** Equal parts are the same objects. */
function expectShared(before: NodePolicy, after: NodePolicy): void {
  for (const part of ['endpoints', 'policies', 'profiles', 'sets'] as const) {
    for (const [key, value] of before[part] as ReadonlyMap<string, unknown>) {
      const now = (after[part] as ReadonlyMap<string, unknown>).get(key);
      if (now === undefined || now === value) continue;
      expect(now).not.toEqual(value);
    }
  }
}

test('rules refer only to sets and chains that are there, within the kernel limits', () => {
  fc.assert(
    fc.property(history, (events) => {
      const policy = fromScratch(lastOfEach(events)).snapshot();
      for (const family of [4, 6] as const) {
        const { table, sets } = renderFilter(policy, family);
        const referred = new Set<string>();
        for (const [name, rules] of [...table.chains, ...table.insertions]) {
          expect(name.length).toBeLessThanOrEqual(28);
          for (const rule of rules) {
            for (const [, set] of rule.matchAll(/--match-set (\S+)/g)) referred.add(set ?? '');
            const target = /-[jg] (cali\S+)/.exec(rule)?.[1];
            if (target) expect(table.chains.has(target)).toBe(true);
          }
        }
        expect(new Set(sets.keys())).toEqual(referred);
        for (const set of sets.values()) {
          expect(set.name.length).toBeLessThanOrEqual(31);
          for (const member of set.members) expect(member.split(',')[0]?.includes(':')).toBe(family === 6);
        }
      }
    }),
    { numRuns: 200 },
  );
});
