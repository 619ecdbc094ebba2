import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Family, parseIp } from '../../../src/model/address.ts';
import { evaluate, type Packet, type Reason } from '../../../src/policy/evaluate.ts';
import type { EndpointPolicy, IpSet, Match, NodePolicy, PolicyRules, Rule, SetId } from '../../../src/policy/ir.ts';
import { parseVerdictPrefix, type VerdictPlace } from '../../../src/policy/render/verdict.ts';
import { defaultRenderOptions, FilterRenderer } from '../../../src/policy/render.ts';
import { traverse } from '../../support/netfilter.ts';

const addresses = { 4: ['10.0.0.1', '10.0.0.2', '10.0.1.1', '192.0.2.1'], 6: ['fd00::1', 'fd00::2', '2001:db8::1'] };
const nets = ['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/31', '10.0.0.2/32', '::/0', 'fd00::/16', 'fd00::2/128'];
const net = fc.subarray(nets, { minLength: 1, maxLength: 3 });
const number = fc.constantFrom(1, 2, 53, 80, 443, 8080);
const range = fc.oneof(
  number.map((first) => ({ first, last: first })),
  fc.tuple(number, number).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) })),
);
const ranges = fc.oneof(
  { weight: 4, arbitrary: fc.array(range, { minLength: 1, maxLength: 3 }) },
  { weight: 1, arbitrary: fc.array(range, { minLength: 9, maxLength: 24 }) },
);
const addressSets = ['s:one', 's:two', 's:all'] as SetId[];
const portSets = ['n:one', 'n:two'] as SetId[];
const setIds = fc.subarray(addressSets, { minLength: 1, maxLength: 2 });
const portSetIds = fc.subarray(portSets, { minLength: 1 });

const sets: fc.Arbitrary<ReadonlyMap<SetId, IpSet>> = fc
  .record({
    one: fc.subarray(['10.0.0.1/32', 'fd00::1/128', '10.0.1.1/32']),
    two: fc.subarray(['10.0.0.2/32', 'fd00::2/128', '192.0.2.0/24']),
    ports: fc.subarray(['10.0.0.1,tcp:80', '10.0.0.2,udp:53', 'fd00::1,tcp:443', '10.0.0.1,tcp:8080']),
  })
  .map(({ one, two, ports }) => {
    const make = (id: string, type: IpSet['type'], members: string[]): [SetId, IpSet] => [
      id as SetId,
      { id: id as SetId, type, description: id, members: new Set(members) },
    ];
    return new Map([
      make('s:one', 'hash:net', one),
      make('s:two', 'hash:net', two),
      make('s:all', 'hash:net', ['0.0.0.0/0', '::/0']),
      make('n:one', 'hash:ip,port', ports),
      make('n:two', 'hash:ip,port', ['fd00::2,udp:53']),
    ]);
  });

/** Conditions that the compiler can make: ports with a protocol that has them, ICMP types with theirs. */
const general = {
  family: fc.constantFrom<Family>(4, 6),
  sourceNets: net,
  notSourceNets: net,
  destinationNets: net,
  notDestinationNets: net,
  sourceSets: setIds,
  notSourceSets: setIds,
  destinationSets: setIds,
  notDestinationSets: setIds,
};
const ported = {
  sourcePorts: ranges,
  notSourcePorts: ranges,
  destinationPorts: ranges,
  notDestinationPorts: ranges,
  destinationPortSets: portSetIds,
  sourcePortSets: portSetIds,
  notDestinationPortSets: portSetIds,
  notSourcePortSets: portSetIds,
};
const icmp = fc.record({ type: fc.constantFrom(8, 128), code: fc.constantFrom(0, 1) }, { requiredKeys: ['type'] });
const sparse = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }, most: number) =>
  fc
    .tuple(fc.record(shape), fc.subarray(Object.keys(shape), { maxLength: most }))
    .map(([all, keys]) => Object.fromEntries(Object.entries(all as object).filter(([key]) => keys.includes(key))));
const match: fc.Arbitrary<Match> = fc.oneof(
  sparse(general, 3),
  fc
    .tuple(sparse(general, 2), sparse(ported, 3), fc.constantFrom(6, 17, 132), fc.option(fc.constantFrom(6, 17)))
    .map(([some, ports, protocol, not]) => ({ ...some, ...ports, protocol, ...(not && { notProtocol: not }) })),
  fc.tuple(sparse(general, 2), fc.constantFrom(6, 17, 58)).map(([some, notProtocol]) => ({ ...some, notProtocol })),
  fc
    .tuple(sparse({ sourceNets: net }, 1), sparse({ icmp, notIcmp: icmp }, 2), fc.constantFrom<Family>(4, 6))
    .map(([some, types, family]) => ({ ...some, ...types, family, protocol: family === 4 ? 1 : 58 })),
);
const fewRules = fc.array(
  fc.record({ action: fc.constantFrom('allow' as const, 'allow' as const, 'deny', 'log', 'pass'), match }),
  {
    maxLength: 3,
  },
);
/** What lets in named peers, so many times that strangers pass by all of it. */
const manyRules = fc.array(
  fc.record({
    action: fc.constantFrom('allow' as const, 'allow' as const, 'log'),
    match: fc.oneof(
      fc.record({ sourceNets: net, destinationNets: net }),
      fc.record({ sourceSets: setIds, destinationSets: setIds, sourceNets: net }),
    ),
  }),
  { minLength: 16, maxLength: 20 },
);
const rules: fc.Arbitrary<Rule[]> = fewRules.map(numbered);
const longRules = fc.tuple(fewRules, manyRules).map(([few, many]) => numbered([...few, ...many]));

function numbered(list: readonly Omit<Rule, 'index'>[]): Rule[] {
  return list.map((rule, index) => ({ ...rule, index }));
}

const profileRules = rules.map((list) => list.filter(({ action }) => action !== 'pass'));

const policyNames = ['a/one', 'a/two', 'b/a-name-that-is-too-long-for-a-chain', 'c/four'];
const policies = (names: readonly string[], of: fc.Arbitrary<Rule[]>): fc.Arbitrary<Map<string, PolicyRules>> =>
  fc
    .tuple(...names.map(() => fc.record({ ingress: of, egress: of })))
    .map((list) => new Map(list.map((each, i) => [names[i] ?? '', { name: names[i] ?? '', title: '', ...each }])));
const endpoint: fc.Arbitrary<EndpointPolicy> = fc.record({
  endpoint: fc.constant('e'),
  interfaceName: fc.constant('cali1'),
  tiers: fc.array(
    fc.record({
      tier: fc.constantFrom('one', 'two'),
      defaultAction: fc.constantFrom('deny' as const, 'pass' as const),
      ingress: fc.subarray(policyNames, { maxLength: 2 }),
      egress: fc.subarray(policyNames, { maxLength: 2 }),
    }),
    { maxLength: 2 },
  ),
  profiles: fc.subarray(['kns.a', 'gone', 'kns.b']),
});
const node: fc.Arbitrary<NodePolicy> = fc.record({
  endpoints: endpoint.map((each) => new Map([['e', each]])),
  policies: policies(policyNames, rules),
  profiles: policies(['kns.a', 'kns.b'], profileRules),
  sets,
});

const transport = fc.oneof(
  fc.record({ protocol: fc.constantFrom(6, 17, 132), sourcePort: number, destinationPort: number }),
  fc.record({
    protocol: fc.constant(1),
    icmp: fc.record({ type: fc.constantFrom(8, 3), code: fc.constantFrom(0, 1) }),
  }),
  fc.record({ protocol: fc.constant(47) }),
);
const packet: fc.Arbitrary<Packet> = fc.constantFrom<Family>(4, 6).chain((family) => {
  const address = fc.constantFrom(...addresses[family]).map((text) => parseIp(text));
  return fc
    .record({
      source: address,
      destination: address,
      direction: fc.constantFrom('ingress' as const, 'egress' as const),
      transport,
    })
    .map(({ transport: layer, ...rest }) => ({
      ...rest,
      ...layer,
      endpoint: 'e',
      ...(family === 6 && layer.protocol === 1 && { protocol: 58 }),
    }));
});

function devicesOf({ direction }: Packet) {
  return direction === 'ingress' ? { input: 'eth0', output: 'cali1' } : { input: 'cali1', output: 'eth0' };
}

type Verdicts = Record<'allow' | 'deny', number>;

/** Compares the kernel's way through the tables with the evaluator's. */
function hold(policies: fc.Arbitrary<NodePolicy>, numRuns: number): Verdicts {
  const verdicts: Verdicts = { allow: 0, deny: 0 };
  fc.assert(
    fc.property(policies, fc.array(packet, { minLength: 20, maxLength: 20 }), (policy, packets) => {
      const renderer = new FilterRenderer();
      for (const each of packets) {
        const { verdict, reason } = evaluate(policy, each);
        const { table, sets: kernelSets } = renderer.render(policy, each.source.includes(':') ? 6 : 4);
        const entry = each.direction === 'ingress' ? 'cali-to-wl-dispatch' : 'cali-from-wl-dispatch';
        const { end, mark } = traverse(table, kernelSets, entry, { ...each, ...devicesOf(each) });
        const accepted = end === 'RETURN' && (mark & 0x10000) !== 0;
        verdicts[verdict]++;
        if (accepted !== (verdict === 'allow')) expect({ each, end, mark, verdict, reason }).toBe('the same verdict');
      }
    }),
    { numRuns },
  );
  return verdicts;
}

test('rendered rules do what the evaluator says', () => {
  const { allow, deny } = hold(node, 2000);
  expect(Math.min(allow, deny)).toBeGreaterThan(1000);
});

test('strangers pass by many rules, and nobody else', () => {
  const names = ['a/one'];
  const tier = { tier: 'one', defaultAction: 'deny' as const, ingress: names, egress: names };
  const alone: EndpointPolicy = { endpoint: 'e', interfaceName: 'cali1', tiers: [tier], profiles: [] };
  const long: fc.Arbitrary<NodePolicy> = fc.record({
    endpoints: fc.constant(new Map([['e', alone]])),
    policies: policies(names, longRules),
    profiles: fc.constant(new Map()),
    sets,
  });
  const { allow, deny } = hold(long, 150);
  expect(Math.min(allow, deny)).toBeGreaterThan(100);
});

function placeOf(reason: Reason): VerdictPlace {
  switch (reason.by) {
    case 'policy':
    case 'profile':
      return { by: 'rule', rule: reason.rule };
    case 'tierDefault':
      return { by: 'tier', tier: reason.tier };
    default:
      return { by: 'end' };
  }
}

test('every verdict is told once, with the rule that the evaluator names', () => {
  const told = { allow: 0, deny: 0 };
  fc.assert(
    fc.property(node, fc.array(packet, { minLength: 20, maxLength: 20 }), (policy, packets) => {
      const renderer = new FilterRenderer({ ...defaultRenderOptions, verdictLogs: { denied: true, allowed: true } });
      for (const each of packets) {
        const { verdict, reason } = evaluate(policy, each);
        const { table, sets: kernelSets } = renderer.render(policy, each.source.includes(':') ? 6 : 4);
        const entry = each.direction === 'ingress' ? 'cali-to-wl-dispatch' : 'cali-from-wl-dispatch';
        const walk = traverse(table, kernelSets, entry, { ...each, ...devicesOf(each) });
        const marks = walk.told.map((prefix) => parseVerdictPrefix(prefix));
        told[verdict]++;
        expect(marks).toEqual([{ verdict, chain: expect.any(String), place: placeOf(reason) }]);
      }
    }),
    { numRuns: 150 },
  );
  expect(Math.min(told.allow, told.deny)).toBeGreaterThan(100);
});
