import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { parseIp } from '../../../src/model/address.ts';
import { explain } from '../../../src/policy/explain.ts';
import type { EndpointPolicy, IpSet, Match, NodePolicy, Rule, SetId } from '../../../src/policy/ir.ts';
import { DispatchTree } from '../../../src/policy/render/dispatch.ts';
import { chainName, setName } from '../../../src/policy/render/names.ts';
import { familyMembers, renderRules } from '../../../src/policy/render/rule.ts';
import { noVerdictLogs, parseVerdictPrefix, verdictPrefix } from '../../../src/policy/render/verdict.ts';
import { defaultRenderOptions, FilterRenderer, renderFilter } from '../../../src/policy/render.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';

const id = (text: string) => text as SetId;
const allow = (match: Match): Rule[] => [{ action: 'allow', match, index: 0 }];
const options = { chain: 'cali-pi-a', logPrefix: 'seen', verdictLogs: noVerdictLogs };
const text = (match: Match, family: 4 | 6 = 4) =>
  renderRules(allow(match), family, options).rules.map((rule) => rule.replace(/ ?-g cali-set-accept$/, ''));

describe('matches', () => {
  test.each<[string, Match, string[]]>([
    ['everything', {}, ['']],
    ['the other family', { family: 6 }, []],
    ['a protocol', { protocol: 132 }, ['-p sctp']],
    ['a protocol by number', { protocol: 47 }, ['-p 47']],
    ['all but a protocol', { notProtocol: 17 }, ['! -p udp']],
    ['a protocol and not itself', { protocol: 6, notProtocol: 6 }, []],
    ['a protocol and not another', { protocol: 6, notProtocol: 17 }, ['-p tcp']],
    ['ICMP', { protocol: 1, icmp: { type: 8, code: 0 } }, ['-p 1 -m icmp --icmp-type 8/0']],
    ['all but an ICMP type', { protocol: 1, notIcmp: { type: 8 } }, ['-p 1 -m icmp ! --icmp-type 8']],
    ['one prefix', { sourceNets: ['10.0.0.0/8', 'fd00::/8'] }, ['-s 10.0.0.0/8']],
    ['prefixes of the other family only', { destinationNets: ['fd00::/8'] }, []],
    ['every address of the family', { destinationNets: ['0.0.0.0/0'] }, ['']],
    ['no address at all', { notSourceNets: ['0.0.0.0/0'] }, []],
    ['all but the other family', { notSourceNets: ['::/0'] }, ['']],
    ['all but one prefix', { notDestinationNets: ['10.0.0.0/8'] }, ['! -d 10.0.0.0/8']],
    [
      'ports and a named port are alternatives',
      { protocol: 6, destinationPorts: [{ first: 80, last: 80 }], destinationPortSets: [id('n:x')] },
      ['-p tcp -m multiport --dports 80', '-p tcp -m set --match-set cali40n:x dst,dst'],
    ],
    [
      'fifteen ports a rule, a range being two',
      {
        protocol: 17,
        destinationPorts: [...Array(14).keys()].map((n) => ({ first: n, last: n })).concat({ first: 80, last: 90 }),
      },
      ['-p udp -m multiport --dports 0,1,2,3,4,5,6,7,8,9,10,11,12,13', '-p udp -m multiport --dports 80:90'],
    ],
    [
      'sets in and out',
      { sourceSets: [id('s:a')], notSourceSets: [id('s:b')], notDestinationPortSets: [id('n:c')], protocol: 6 },
      [
        '-p tcp -m set --match-set cali40s:a src -m set ! --match-set cali40s:b src -m set ! --match-set cali40n:c dst,dst',
      ],
    ],
  ])('%s', (_, match, expected) => {
    expect(text(match)).toEqual(expected);
  });

  test('several prefixes become a set of their own, the same one wherever they stand', () => {
    const rendered = renderRules(
      allow({ sourceNets: ['10.2.0.0/16', '10.1.0.0/16'], notDestinationNets: ['10.1.0.0/16', '10.2.0.0/16'] }),
      4,
      options,
    );
    expect(rendered.nets).toHaveLength(1);
    const [set] = rendered.nets;
    expect(set).toMatchObject({ type: 'hash:net', family: 4, members: new Set(['10.1.0.0/16', '10.2.0.0/16']) });
    expect(rendered.rules).toEqual([
      `-m set --match-set ${set?.name} src -m set ! --match-set ${set?.name} dst -g cali-set-accept`,
    ]);
  });

  test('a prefix with exceptions', () => {
    const [rule] = text({ sourceNets: ['10.0.0.0/8'], notSourceNets: ['10.1.0.0/16'] });
    expect(rule).toMatch(/^-s 10\.0\.0\.0\/8 -m set ! --match-set cali40w:\S+ src$/);
  });

  test('actions', () => {
    const actions = (['allow', 'deny', 'pass', 'log'] as const).map((action) => ({ action, match: {}, index: 0 }));
    expect(renderRules(actions, 4, options).rules).toEqual([
      '-g cali-set-accept',
      '-j DROP',
      '-g cali-set-pass',
      '-j LOG --log-prefix "seen: " --log-level 5',
    ]);
  });
});

describe('verdicts that are told', () => {
  const limit = '-m limit --limit 10/sec --limit-burst 20 -j NFLOG --nflog-group 80 --nflog-prefix';
  const rules: Rule[] = [
    { action: 'deny', match: { protocol: 6 }, index: 3 },
    { action: 'allow', match: {}, index: 4 },
  ];

  test('only the denied', () => {
    const told = renderRules(rules, 4, { ...options, verdictLogs: { denied: true, allowed: false } });
    expect(told.rules).toEqual([`-p tcp ${limit} "D|cali-pi-a|r3"`, '-p tcp -j DROP', '-g cali-set-accept']);
  });

  test('all', () => {
    const told = renderRules(rules, 4, { ...options, verdictLogs: { denied: true, allowed: true } });
    expect(told.rules.slice(2)).toEqual([`${limit} "A|cali-pi-a|r4"`, '-g cali-set-accept']);
  });

  test('the longest prefix fits the 63 octets that the kernel keeps', () => {
    const chain = 'cali-pi-_0123456789abcdefghi';
    const mark = { verdict: 'deny', chain, place: { by: 'tier', tier: 'a-tier.'.repeat(30) } } as const;
    expect(chain).toHaveLength(28);
    expect(verdictPrefix(mark).length).toBeLessThanOrEqual(63);
    expect(parseVerdictPrefix(verdictPrefix(mark))).toMatchObject({ chain, place: { by: 'tier' } });
  });

  test.each(['', 'D|', 'D|x|e', 'D|cali|r', 'X|cali-a|e', 'D|cali-a|r1 ', 'D|cali-a|r1234567890'])(
    '%j is not ours',
    (prefix) => {
      expect(parseVerdictPrefix(prefix)).toBeUndefined();
    },
  );
});

test('a hash:net set cannot hold /0', () => {
  const members = new Set(['0.0.0.0/0', '::/0', '10.0.0.1/32', 'fd00::1,tcp:80']);
  expect(familyMembers(members, 4)).toEqual(new Set(['0.0.0.0/1', '128.0.0.0/1', '10.0.0.1/32']));
  expect(familyMembers(members, 6)).toEqual(new Set(['::/1', '8000::/1', 'fd00::1,tcp:80']));
});

test('names fit the kernel', () => {
  expect(chainName('cali-pi-', 'shop/knp.default.a')).toBe('cali-pi-shop/knp.default.a');
  const long = chainName('cali-pri-', `kns.${'x'.repeat(60)}`);
  expect(long).toMatch(/^cali-pri-_[\w-]{18}$/);
  expect(setName(`s:${'x'.repeat(38)}`, 6)).toHaveLength(31);
});

describe('dispatch', () => {
  const names = [...Array(300).keys()].map((n) => `cali${(n * 7919).toString(16).padStart(11, '0')}`);
  const leaf = (name: string) => ({ name, rules: [`-i ${name} -g to-${name}`] });
  const leaves = [...names, 'cali', 'cali0'].toSorted().map(leaf);
  const tree = new Map(new DispatchTree('cali-from-wl-dispatch', '-i').render(leaves));

  /** Where a packet of the interface goes, as the kernel walks; and over how many rules. */
  function walk(name: string): [string, number] {
    let chain = 'cali-from-wl-dispatch';
    for (let rules = 1; ; ) {
      const hit = tree.get(chain)?.find((rule) => {
        rules++;
        const wanted = /^-i (\S+)/.exec(rule)?.[1];
        return wanted === undefined || (wanted.endsWith('+') ? name.startsWith(wanted.slice(0, -1)) : wanted === name);
      });
      const target = /-[gj] (\S+)$/.exec(hit ?? '')?.[1] ?? 'nowhere';
      if (!tree.has(target)) return [target, rules];
      chain = target;
    }
  }

  test('every interface finds its chain in few steps', () => {
    for (const name of [...names, 'cali', 'cali0']) {
      const [target, rules] = walk(name);
      expect(target).toBe(`to-${name}`);
      expect(rules).toBeLessThan(70);
    }
  });

  test.each(['cali00000000', 'califffffffffff', 'calix', 'cali1'])('unknown %s is dropped', (name) => {
    expect(walk(name)[0]).toBe('DROP');
  });

  test('without endpoints everything is dropped', () => {
    expect(new DispatchTree('root', '-o').render([])).toEqual([['root', ['-j DROP']]]);
  });
});

const endpoint: EndpointPolicy = {
  endpoint: 'e',
  interfaceName: 'cali1',
  tiers: [
    { tier: 'kube-admin', defaultAction: 'pass', ingress: ['a/x'], egress: [] },
    { tier: 'default', defaultAction: 'deny', ingress: ['a/y'], egress: [] },
  ],
  profiles: ['kns.a', 'gone', 'kns.b'],
};
const set: IpSet = {
  id: id('s:a'),
  type: 'hash:net',
  description: 'a',
  members: new Set(['10.0.0.1/32', 'fd00::1/128']),
};
const rules = (name: string, ...ingress: Rule[]) => ({ name, title: name, ingress, egress: [] });
const policy: NodePolicy = {
  endpoints: new Map([['e', endpoint]]),
  policies: new Map([
    ['a/x', rules('a/x', { action: 'pass', match: { sourceSets: [set.id] }, index: 0 })],
    ['a/y', rules('a/y', { action: 'allow', match: {}, index: 0 })],
  ]),
  profiles: new Map([
    ['kns.a', rules('kns.a')],
    ['kns.b', rules('kns.b')],
  ]),
  sets: new Map([[set.id, set]]),
};

describe('filter table', () => {
  test('the chain of an endpoint: state, marks, tiers, profiles, drop', () => {
    const { table } = renderFilter(policy, 4);
    expect(table.chains.get(chainOf(rulesOf(table), 'cali1', 'ingress') ?? '')).toEqual([
      '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-m conntrack --ctstate INVALID -j DROP',
      '-j MARK --set-xmark 0x0/0x30000',
      '-j MARK --set-xmark 0x0/0x20000',
      '-m mark --mark 0x0/0x20000 -j cali-pi-a/x',
      '-m mark --mark 0x10000/0x10000 -j RETURN',
      '-j MARK --set-xmark 0x0/0x20000',
      '-m mark --mark 0x0/0x20000 -j cali-pi-a/y',
      '-m mark --mark 0x10000/0x10000 -j RETURN',
      '-m mark --mark 0x0/0x20000 -j DROP',
      '-j cali-pri-kns.a',
      '-m mark --mark 0x10000/0x10000 -j RETURN',
      '-j DROP',
    ]);
    expect(table.chains.get(chainOf(rulesOf(table), 'cali1', 'egress') ?? '')?.slice(3, 6)).toEqual([
      '-p udp -m multiport --dports 4789 -j DROP',
      '-p 4 -j DROP',
      '-j cali-pro-kns.a',
    ]);
  });

  test('endpoints with equal policies have one chain, and others another', () => {
    const same = { ...endpoint, endpoint: 'f', interfaceName: 'cali2', tiers: structuredClone(endpoint.tiers) };
    const other = { ...endpoint, endpoint: 'g', interfaceName: 'cali3', tiers: endpoint.tiers.slice(0, 1) };
    const endpoints = new Map([endpoint, same, other].map((one) => [one.endpoint, one]));
    const { table } = renderFilter({ ...policy, endpoints }, 4);
    const chains = (direction: 'ingress' | 'egress') =>
      ['cali1', 'cali2', 'cali3'].map((name) => chainOf(rulesOf(table), name, direction));
    const [one, two, three] = chains('ingress');
    expect([two, three === one]).toEqual([one, false]);
    // None of the tiers asks anything of egress.
    expect(new Set(chains('egress')).size).toBe(1);
    expect([...table.chains.keys()].filter((name) => name.startsWith('cali-tw-'))).toHaveLength(2);
    for (const { endpoint: key } of [endpoint, same, other]) {
      const packet = { endpoint: key, direction: 'ingress' as const, protocol: 6, destinationPort: 1 };
      const asked = { ...packet, source: parseIp('10.0.0.1'), destination: parseIp('10.0.0.2') };
      const device = endpoints.get(key)?.interfaceName ?? '';
      expect(explain({ ...policy, endpoints }, asked).chain).toBe(chainOf(rulesOf(table), device, 'ingress'));
    }
  });

  test('sets of each family', () => {
    const four = { name: 'cali40s:a', type: 'hash:net', family: 4, members: new Set(['10.0.0.1/32']) };
    expect([...renderFilter(policy, 4).sets.values()]).toEqual([four]);
    expect([...renderFilter(policy, 6).sets.values()]).toMatchObject([
      { name: 'cali60s:a', members: new Set(['fd00::1/128']) },
    ]);
    const without = { ...policy, sets: new Map() };
    expect([...renderFilter(without, 4).sets.values()]).toEqual([{ ...four, members: new Set() }]);
  });

  test('pods to their host: neighbour discovery, egress policy, then the option', () => {
    const options = { ...defaultRenderOptions, endpointToHost: 'ACCEPT' as const };
    expect(renderFilter(policy, 4, options).table.chains.get('cali-wl-to-host')).toEqual([
      '-j cali-from-wl-dispatch',
      '-j ACCEPT',
    ]);
    expect(renderFilter(policy, 6).table.chains.get('cali-wl-to-host')).toEqual([
      ...[130, 131, 132, 133, 135, 136].map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`),
      '-j cali-from-wl-dispatch',
      '-j DROP',
    ]);
  });

  test('an interface that two endpoints claim, or that is no pod interface, is not dispatched', () => {
    const twice = {
      ...policy,
      endpoints: new Map([
        ['e', endpoint],
        ['f', endpoint],
        ['g', { ...endpoint, interfaceName: 'eth0' }],
      ]),
    };
    const { chains } = renderFilter(twice, 4).table;
    expect(chains.get('cali-from-wl-dispatch')).toEqual(['-j DROP']);
    expect(chains.get('cali-to-wl-dispatch')).toEqual(['-j DROP']);
  });

  test('chains that did not change keep their arrays', () => {
    const renderer = new FilterRenderer();
    const before = renderer.render(policy, 4).table.chains;
    const changed = { ...policy, policies: new Map(policy.policies).set('a/y', rules('a/y')) };
    const after = renderer.render(changed, 4).table.chains;
    expect([...after].filter(([name, chain]) => before.get(name) !== chain).map(([name]) => name)).toEqual([
      'cali-pi-a/y',
    ]);
  });

  test.each([
    ['interfacePrefix', { interfacePrefix: 'cali+' }],
    ['interfacePrefix', { interfacePrefix: '' }],
    ['logPrefix', { logPrefix: 'x" -j ACCEPT' }],
  ])('%s that the kernel would misread', (field, options) => {
    const make = () => new FilterRenderer({ ...defaultRenderOptions, ...options });
    expect(make).toThrow(InputError);
    expect(make).toThrow(field);
  });
});
