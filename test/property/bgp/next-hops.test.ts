import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide } from '../../../src/bgp/decision.ts';
import type { Candidate } from '../../../src/bgp/rib.ts';
import { parseIp } from '../../../src/model/address.ts';

const candidate = fc
  .record({
    last: fc.integer({ min: 1, max: 4 }),
    kind: fc.constantFrom('ibgp', 'ebgp'),
    localPref: fc.constantFrom(100, 200),
    med: fc.constantFrom(0, 5),
  })
  .map(
    ({ last, kind, localPref, med }): Candidate => ({
      source: {
        name: `p${last}`,
        kind,
        identifier: parseIp(`10.0.0.${last}`),
        address: parseIp(`10.0.0.${last}`),
        client: false,
      } as Candidate['source'],
      attributes: { origin: 'igp', asPath: [], nextHop: parseIp(`10.0.0.${last}`), localPref, med },
      stale: false,
    }),
  );
const candidates = fc.uniqueArray(candidate, { selector: ({ source }) => source.name, maxLength: 4 });
const metric = fc.constantFrom(0, 10, 20, Number.POSITIVE_INFINITY);

test('metrics that are all alike change nothing', () => {
  fc.assert(
    fc.property(candidates, fc.constantFrom(0, 10), (paths, cost) => {
      expect(decide(paths, () => cost)).toEqual(decide(paths));
    }),
  );
});

test('who takes no part is as if it were not there, and every path has its fate', () => {
  fc.assert(
    fc.property(candidates, fc.array(metric, { minLength: 5, maxLength: 5 }), (paths, costs) => {
      const costOf = ({ source }: Candidate) => costs[Number(source.name.slice(1))] ?? 0;
      const eligible = paths.filter((path) => costOf(path) !== Number.POSITIVE_INFINITY);
      const decision = decide(paths, costOf);
      expect(decision?.best).toBe(decide(eligible, costOf)?.best);
      expect(decision === undefined).toBe(eligible.length === 0);
      if (!decision) return;
      const known = new Set([...decision.multipath, ...decision.lost.map((lost) => lost.candidate)]);
      expect(known.size).toBe(paths.length);
      for (const path of decision.multipath) expect(costOf(path)).toBe(costOf(decision.best));
      for (const { candidate: path, reason } of decision.lost)
        expect(reason === 'nextHopUnreachable').toBe(!eligible.includes(path));
    }),
  );
});
