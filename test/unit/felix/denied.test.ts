import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { DeniedPackets, DeniedReader } from '../../../src/felix/flow-log/denied.ts';
import { registerStaged, registerVerdicts } from '../../../src/felix/flow-log/metrics.ts';
import { VerdictPlaces } from '../../../src/felix/flow-log/places.ts';
import { parseCounters, parseListed } from '../../../src/kernel/iptables/counters.ts';
import type { NodePolicy } from '../../../src/policy/ir.ts';
import { endpointChainName } from '../../../src/policy/render/names.ts';
import { silent } from './support.ts';

const rules = { name: 'shop/b', title: 'NetworkPolicy shop/b', ingress: [], egress: [] };
const policy: NodePolicy = {
  endpoints: new Map([
    [
      'e',
      {
        endpoint: 'e',
        interfaceName: 'cali1',
        tiers: [{ tier: 'net', defaultAction: 'deny', ingress: ['shop/a', 'shop/b'], egress: [] }],
        profiles: [],
      },
    ],
  ]),
  policies: new Map([['shop/b', rules]]),
  profiles: new Map(),
  sets: new Map(),
};

const tag = (letter: string) => `-m comment --comment "cali:${letter.repeat(16)}"`;
const pair = (chain: string, place: string, told: number, packets: number) => [
  `[${told}:${told * 60}] -A ${chain} ${tag('a')} -m limit --limit 10/sec -j NFLOG --nflog-prefix  "D|${chain}|${place}" --nflog-group 80`,
  `[${packets}:${packets * 60}] -A ${chain} ${tag('b')} -j DROP`,
];
const saved = (...lines: readonly string[]) => ['*filter', ':cali-x - [0:0]', ...lines, 'COMMIT'].join('\n');

test('counters of our chains, in order', () => {
  const text = saved(
    `[3:180] -A cali-x ${tag('q')} -p tcp -j DROP`,
    '[9:9] -A KUBE-X -j DROP',
    '[0:0] -A cali-x -j ACCEPT',
  );
  expect(parseCounters(text)).toEqual(
    new Map([
      [
        'cali-x',
        [
          { hash: 'q'.repeat(16), text: `${tag('q')} -p tcp -j DROP`, packets: 3, bytes: 180 },
          { hash: '', text: '-j ACCEPT', packets: 0, bytes: 0 },
        ],
      ],
    ]),
  );
});

test('the rules of a chain as they are listed', () => {
  const listed = [
    '-N cali-x -c 0 0',
    `-A cali-x -p tcp ${tag('q')} -c 3 180 -j DROP`,
    `-A cali-x ${tag('r')} -m limit --limit 10/sec -c 0 0 -j NFLOG --nflog-prefix "D|x -c 1 2" --nflog-group 80`,
    '-A cali-x -c 1 60 -j ACCEPT',
    '-A cali-x -c 1 60',
    '',
  ].join('\n');
  expect(parseListed(listed)).toEqual([
    { hash: 'q'.repeat(16), text: `-p tcp ${tag('q')} -j DROP`, packets: 3, bytes: 180 },
    {
      hash: 'r'.repeat(16),
      text: `${tag('r')} -m limit --limit 10/sec -j NFLOG --nflog-prefix "D|x -c 1 2" --nflog-group 80`,
      packets: 0,
      bytes: 0,
    },
    { hash: '', text: '-j ACCEPT', packets: 1, bytes: 60 },
    { hash: '', text: '', packets: 1, bytes: 60 },
  ]);
});

test('packets are summed over families, rules of one rule and chains that are written anew', () => {
  const denied = new DeniedPackets(new VerdictPlaces(() => policy));
  const look = (four: readonly string[], six: readonly string[] = []) => {
    denied.look(
      new Map([4 as const, 6 as const].map((family) => [family, parseCounters(saved(...(family === 4 ? four : six)))])),
    );
    return denied.totals();
  };
  const rule = (told: number, packets: number) => pair('cali-pi-shop/b', 'r1', told, packets);
  const of = (packets: number, untold: number) => [
    { policy: 'net|NetworkPolicy shop/b|1|deny', direction: 'ingress', packets, bytes: packets * 60, untold },
  ];
  expect(look([...rule(2, 5), ...rule(0, 1)], rule(1, 1))).toEqual(of(0, 0));
  expect(look([...rule(3, 9), ...rule(0, 1)], rule(2, 2))).toEqual(of(5, 3));
  // Both were written again, and have counted two packets since.
  expect(look(rule(2, 2), rule(0, 0))).toEqual(of(7, 3));
  expect(look([])).toEqual([]);
});

test('the end of a tier is counted for its last policy, and that of all for none', () => {
  const denied = new DeniedPackets(new VerdictPlaces(() => policy));
  denied.look(new Map());
  const [to = '', from = ''] = (['ingress', 'egress'] as const).flatMap((direction) =>
    [...policy.endpoints.values()].map((endpoint) => endpointChainName(endpoint, direction)),
  );
  const lines = [...pair(to, 'tnet', 1, 1), ...pair(from, 'e', 1, 2)];
  denied.look(new Map([[4, parseCounters(saved(...lines, ...pair('cali-pi-gone/x', 'r0', 1, 1)))]]));
  expect(denied.totals().map((each) => [each.policy, each.direction, each.packets])).toEqual([
    ['net|NetworkPolicy shop/b|-1|deny', 'ingress', 1],
    ['profile||-1|deny', 'egress', 2],
  ]);
});

test('a scrape reads the counters, and gives the last ones when they cannot be read', async () => {
  const registry = new Registry();
  const denied = new DeniedPackets(new VerdictPlaces(() => policy));
  denied.look(new Map());
  const answers = [pair('cali-pi-shop/b', 'r1', 2, 5), undefined, pair('cali-pi-shop/b', 'r1', 3, 6)];
  const read = async () => {
    const lines = answers.shift();
    if (!lines) throw new Error('no iptables');
    return new Map([[4 as const, parseCounters(saved(...lines))]]);
  };
  const flows = { state: () => ({ told: 7, lost: 1 }) };
  registerVerdicts(registry, new DeniedReader(denied, read, silent), flows);
  const scrape = async () => (await registry.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
  const labels = '{policy="net|NetworkPolicy shop/b|1|deny",direction="ingress"}';
  const of = (packets: number) => [
    `calico_denied_packets${labels} ${packets}`,
    `calico_denied_bytes${labels} ${packets * 60}`,
    `margay_felix_verdicts_untold${labels} 3`,
    'margay_felix_verdicts_told 7',
    'margay_felix_verdicts_lost 1',
  ];
  expect(await scrape()).toEqual(of(5));
  expect(await scrape()).toEqual(of(5));
  expect(await scrape()).toEqual(of(6));
});

test('a scrape reads what staged policies count once, and leaves it out when it cannot be read', async () => {
  const registry = new Registry();
  let reads = 0;
  const count = { policy: 'StagedNetworkPolicy shop/a', direction: 'ingress', rule: 0, action: 'deny' } as const;
  registerStaged(
    registry,
    async () => {
      if (++reads === 2) throw new Error('no iptables');
      return [{ ...count, packets: 3, bytes: 180 }];
    },
    silent,
  );
  const scrape = async () => (await registry.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
  const labels = '{policy="StagedNetworkPolicy shop/a",direction="ingress",rule="0",action="deny"}';
  const expected = [`margay_felix_staged_packets${labels} 3`, `margay_felix_staged_bytes${labels} 180`];
  expect(await scrape()).toEqual(expected);
  expect(reads).toBe(1);
  expect(await scrape()).toEqual([]);
  expect(await scrape()).toEqual(expected);
});
