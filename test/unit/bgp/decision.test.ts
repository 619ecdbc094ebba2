import { describe, expect, test } from 'vitest';
import { decide, type Reason } from '../../../src/bgp/decision.ts';
import type { Candidate, Source } from '../../../src/bgp/rib.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { parseIp } from '../../../src/model/address.ts';

let count = 0;

function candidate(attributes: Partial<Attributes> = {}, source: Partial<Source> = {}): Candidate {
  count++;
  return {
    source: {
      name: `peer${count}`,
      kind: 'ebgp',
      address: parseIp(`10.0.1.${count}`),
      identifier: parseIp('10.0.0.9'),
      ...source,
    },
    attributes: {
      origin: 'igp',
      asPath: [{ type: 'sequence', asns: [65001, 65002] }],
      nextHop: parseIp(`10.0.1.${count}`),
      ...attributes,
    },
    stale: false,
  };
}

const path = (...asns: number[]) => [{ type: 'sequence', asns }] as const;

describe('the better path wins, and the other one is told why it lost', () => {
  const cases: [Reason, () => [better: Candidate, worse: Candidate]][] = [
    ['notLocal', () => [candidate({ localPref: 1 }, { kind: 'local' }), candidate({ localPref: 900 })]],
    ['longLivedStale', () => [candidate({ localPref: 1 }), candidate({ localPref: 900, communities: [0xffff0006] })]],
    ['localPref', () => [candidate({ localPref: 101, asPath: path(1, 2, 3) }), candidate()]],
    ['asPathLength', () => [candidate({ asPath: path(65001), origin: 'incomplete' }), candidate()]],
    ['asPathLength', () => [candidate({ asPath: [{ type: 'set', asns: [1, 2, 3] }] }), candidate()]],
    ['origin', () => [candidate({ origin: 'igp', med: 5 }), candidate({ origin: 'egp' })]],
    ['origin', () => [candidate({ origin: 'egp' }), candidate({ origin: 'incomplete' })]],
    ['med', () => [candidate({ med: 4 }, { kind: 'ibgp' }), candidate({ med: 5 })]],
    ['med', () => [candidate({}, { kind: 'ibgp' }), candidate({ med: 1 })]],
    [
      'externalOverInternal',
      () => [
        candidate({}, { identifier: parseIp('9.9.9.9') }),
        candidate({}, { kind: 'ibgp', identifier: parseIp('1.1.1.1') }),
      ],
    ],
    [
      'identifier',
      () => [candidate({ clusterList: [parseIp('1.1.1.1')] }, { identifier: parseIp('9.255.0.0') }), candidate()],
    ],
    ['identifier', () => [candidate({ originatorId: parseIp('1.0.0.1') }), candidate()]],
    [
      'clusterListLength',
      () => [
        candidate({}, { address: parseIp('10.0.2.2') }),
        candidate({ clusterList: [parseIp('1.1.1.1')] }, { address: parseIp('10.0.2.1') }),
      ],
    ],
    [
      'peerAddress',
      () => [candidate({}, { address: parseIp('10.0.0.2') }), candidate({}, { address: parseIp('10.0.0.10') })],
    ],
  ];

  test.each(cases)('%s', (reason, make) => {
    const [better, worse] = make();
    for (const order of [
      [better, worse],
      [worse, better],
    ]) {
      const decision = decide(order);
      expect(decision?.best).toBe(better);
      expect(decision?.lost).toEqual([{ candidate: worse, reason }]);
    }
  });
});

test('MED does not count between neighbours of different ASes', () => {
  const low = candidate({ med: 1, asPath: path(65001, 7) }, { identifier: parseIp('10.0.0.9') });
  const high = candidate({ med: 9, asPath: path(65003, 7) }, { identifier: parseIp('10.0.0.1') });
  expect(decide([low, high])?.best).toBe(high);
});

test('the outcome does not depend on the order of arrival, as naive pairwise MED comparison would', () => {
  const a = candidate({ med: 10, asPath: path(1, 7) }, { identifier: parseIp('0.0.0.3') });
  const b = candidate({ med: 5, asPath: path(1, 7) }, { identifier: parseIp('0.0.0.9') });
  const c = candidate({ asPath: path(2, 7) }, { identifier: parseIp('0.0.0.5') });
  for (const order of [
    [a, b, c],
    [a, c, b],
    [b, a, c],
    [b, c, a],
    [c, a, b],
    [c, b, a],
  ]) {
    expect(decide(order)?.best).toBe(c);
  }
});

test('equal paths with other next hops are used together, through whichever ASes of equal number', () => {
  const first = candidate({}, { identifier: parseIp('10.0.0.1') });
  const second = candidate({}, { identifier: parseIp('10.0.0.2') });
  const sameHop = candidate({ ...(first.attributes.nextHop ? { nextHop: first.attributes.nextHop } : {}) });
  const otherAs = candidate({ asPath: path(65009, 65002) });
  const worse = candidate({ asPath: path(65009, 65003), med: 5 });
  const longer = candidate({ asPath: path(65001, 65002, 65003) });
  const decision = decide([longer, worse, otherAs, sameHop, second, first]);
  expect(decision?.best).toBe(first);
  expect(decision?.multipath).toEqual([first, otherAs, second]);
  expect(decision?.lost).toContainEqual({ candidate: worse, reason: 'med' });
});

test('nothing to decide', () => {
  expect(decide([])).toBeUndefined();
  const only = candidate();
  expect(decide([only])).toEqual({ best: only, multipath: [only], lost: [] });
});
