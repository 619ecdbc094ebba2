import fc from 'fast-check';
import type { Event, Key, Type, Value } from '../../src/datastore/store.ts';
import type { Graph } from '../../src/felix/calc/graph.ts';
import { type Cidr, parseIp } from '../../src/model/address.ts';
import type { FeedMessage } from '../../src/model/feed.ts';

/* Histories of what exists, and the many ways in which the news of them may come. */

/** One thing that exists in several forms over time; undefined: it does not. The last form is what counts. */
export type Story =
  | { readonly of: 'object'; readonly key: Key; readonly forms: readonly (Value<Type> | undefined)[] }
  | { readonly of: 'feed'; readonly prefix: Cidr; readonly forms: readonly (readonly string[] | undefined)[] };

export type Step =
  | { readonly of: 'object'; readonly event: Event }
  | { readonly of: 'feed'; readonly message: FeedMessage };

/** A telling of stories, and the stories. */
export interface Telling {
  readonly list: readonly Story[];
  readonly steps: readonly Step[];
}

/** A form of a story as news. Revisions differ exactly when forms do. */
export function step(story: Story, at: number): Step {
  if (story.of === 'object') {
    const value = story.forms[at];
    const { key } = story;
    const entry = { key, value, revision: String(at + 1) };
    return { of: 'object', event: (value ? { op: 'set', entry } : { op: 'delete', key }) as Event };
  }
  const { prefix } = story;
  const nextHops = story.forms[at]?.map((hop) => parseIp(hop));
  return {
    of: 'feed',
    message: nextHops ? { type: 'route', prefix, nextHops, source: 'ibgp' } : { type: 'withdraw', prefix },
  };
}

/**
 * All forms of all stories, each story in its own order, some left out, some said again; the last is always said.
 * @param picks steps before the last forms, at most
 */
export function tellingsOf(stories: fc.Arbitrary<Story[]>, picks = 60): fc.Arbitrary<Telling> {
  return stories.chain((list) =>
    fc
      .record({
        picks: fc.array(fc.nat({ max: list.length - 1 }), { maxLength: picks }),
        skip: fc.array(fc.boolean(), { minLength: picks, maxLength: picks }),
        order: fc.shuffledSubarray([...list.keys()], { minLength: list.length, maxLength: list.length }),
      })
      .map(({ picks: said, skip, order }) => ({ list, steps: stepsOf(list, said, skip, order) })),
  );
}

function stepsOf(
  list: readonly Story[],
  picks: readonly number[],
  skip: readonly boolean[],
  order: readonly number[],
): Step[] {
  const at = list.map(() => 0);
  const steps: Step[] = [];
  picks.forEach((pick, index) => {
    const story = list[pick];
    const form = at[pick] ?? 0;
    if (!story || form >= story.forms.length) return;
    steps.push(step(story, form));
    // Saying a form once more, or leaving it for a later one, changes nothing.
    if (!skip[index]) at[pick] = form + 1;
  });
  for (const pick of order) {
    const story = list[pick];
    if (story) steps.push(step(story, story.forms.length - 1));
  }
  return steps;
}

/** Everything that the calculation gives, in a form that compares. */
export function outcome(result: Graph) {
  const { tables, sets } = result.firewall();
  const sorted = <V>(map: ReadonlyMap<string, V>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    endpoints: sorted(result.endpoints),
    routes: sorted(result.routes.winners),
    tables: [...tables].map(([family, byName]) => [
      family,
      sorted(byName).map(([name, table]) => [name, sorted(table.chains), sorted(table.insertions)]),
    ]),
    sets: sorted(sets).map(([name, set]) => [name, set.type, [...set.members].sort()]),
  };
}
