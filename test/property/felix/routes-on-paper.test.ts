import fc from 'fast-check';
import { expect, test } from 'vitest';
import { gatewayForm } from '../../../src/felix/calc/route.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { RouteManager } from '../../../src/felix/managers/routes.ts';
import { withDestination } from '../../../src/kernel/route.ts';
import { netlinkOver } from '../../../src/kernel/rtnetlink/driver.ts';
import { PaperWire } from '../../../src/kernel/rtnetlink/paper.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';

/* The whole way of a route, octets and packed tables included, beside plain maps: only the kernel's end is on paper. */

const prefixes = Array.from({ length: 40 }, (_, at) => parseCidr(`10.0.${at >> 2}.${(at & 3) << 6}/26`));
const form = (gateway: number, protocol = 80) => ({
  ...gatewayForm([{ gateway: parseIp(`192.0.2.${gateway}`) }]),
  protocol,
});
const gateway = fc.integer({ min: 1, max: 3 });
const some = fc.subarray(prefixes);

type Step =
  | { readonly act: 'want' | 'changed'; readonly which: readonly Cidr[]; readonly gateway: number }
  | { readonly act: 'drop' | 'lost'; readonly which: readonly Cidr[] }
  | { readonly act: 'resync' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ act: fc.constantFrom('want' as const, 'changed' as const), which: some, gateway }),
    fc.record({ act: fc.constantFrom('drop' as const, 'lost' as const), which: some }),
    fc.constant({ act: 'resync' as const }),
  ),
  { maxLength: 12 },
);

/** Identifiers are given out again before the next resync: one that is free still looks like the prefix that had it. */
const reused: [Step[], Cidr[]] = (() => {
  const some = (...at: readonly number[]) => prefixes.filter((_, place) => at.includes(place));
  const want = (which: readonly Cidr[]): Step => ({ act: 'want', which, gateway: 1 });
  const later = [7, 34, 35, 36, 37, 38, 39];
  const list = [want(some(33)), want(some(...later)), { act: 'drop' as const, which: some(33, ...later) }];
  return [[...list, want(some(0, 1, 2, 3, 4, 6, 7))], some(7)];
})();

test('after every resync the table holds what is wanted and what is not ours', async () => {
  await fc.assert(
    fc.asyncProperty(steps, some, async (list, foreign) => {
      const paper = new PaperWire();
      const [ours, theirs] = [netlinkOver(paper), netlinkOver(paper)];
      const others = foreign.map((to) => withDestination(form(9, 4), to));
      expect(theirs.applyRoutes(others, [])).toEqual([]);
      const table = new RouteTable();
      const manager = new RouteManager(ours, table, { families: [4], interfacePrefix: 'cali' });
      const wanted = new Map<Cidr, number>();
      const free = (which: readonly Cidr[]) => which.filter((to) => !foreign.includes(to));
      for (const step of [...list, { act: 'resync' as const }]) {
        if (step.act === 'want')
          for (const to of step.which) {
            wanted.set(to, step.gateway);
            table.want('bgp', to, form(step.gateway));
          }
        else if (step.act === 'drop')
          for (const to of step.which) {
            wanted.delete(to);
            table.remove(to, { class: 'bgp', owner: to });
          }
        else if (step.act === 'changed')
          theirs.applyRoutes(
            free(step.which).map((to) => withDestination(form(step.gateway), to)),
            [],
          );
        else if (step.act === 'lost')
          theirs.applyRoutes(
            [],
            free(step.which).map((to) => withDestination(form(1), to)),
          );
        else {
          await manager.read();
          const { failures } = await manager.apply(() => true);
          expect(failures.map(({ item }) => item).sort()).toEqual(foreign.filter((to) => wanted.has(to)).sort());
          const expected = [
            ...others,
            ...free([...wanted.keys()]).map((to) => withDestination(form(wanted.get(to) ?? 0), to)),
          ];
          const byName = (a: { destination: string }, b: { destination: string }) =>
            a.destination < b.destination ? -1 : 1;
          expect(theirs.routes(4).sort(byName)).toEqual(expected.sort(byName));
          expect(manager.owned).toBe(expected.length - others.length);
        }
      }
    }),
    { numRuns: 100, examples: [reused] },
  );
});
