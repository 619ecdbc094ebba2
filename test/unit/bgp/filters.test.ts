import { describe, expect, test } from 'vitest';
import { parseFilter } from '../../../src/bgp/filter-resource.ts';
import {
  compileFilter,
  type Lead,
  operated,
  prefixOctets,
  priorityOf,
  type Verdict,
} from '../../../src/bgp/filters.ts';
import type { Source } from '../../../src/bgp/sources.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { type BgpFilter, parseResource } from '../../../src/model/kinds.ts';

const attributes: Attributes = {
  origin: 'igp',
  asPath: [{ type: 'sequence', asns: [65001, 65002] }],
  nextHop: parseIp('10.0.0.2'),
  communities: [65000 * 0x10000 + 100],
  largeCommunities: [[65000, 1, 2]],
};

function resource(spec: object): BgpFilter {
  return parseResource('BGPFilter', {
    kind: 'BGPFilter',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'f' },
    spec,
  });
}

interface Route {
  readonly prefix?: string;
  readonly external?: boolean;
  readonly remote?: boolean;
  readonly change?: Partial<Attributes>;
  readonly device?: string;
}

const source: Source = { name: 'tor', kind: 'ebgp', identifier: parseIp('10.0.0.2') };
const own: Source = { name: 'local', kind: 'local', identifier: parseIp('0.0.0.0') };

function verdict(rules: readonly object[], route: Route = {}): Verdict {
  const { prefix = '10.1.2.0/24', external = true, remote = true, change = {}, device = '' } = route;
  const family = prefix.includes(':') ? 6 : 4;
  const parsed = parseFilter(resource(family === 4 ? { importV4: rules } : { importV6: rules }));
  const { octets, length } = prefixOctets(parseCidr(prefix));
  const filter = compileFilter(parsed.import[family], { family, external, deviceOf: () => device });
  return filter?.judge(octets, 0, length, { ...attributes, ...change }, remote ? source : own);
}

describe('prefixes', () => {
  test.each([
    ['Equal', '10.1.2.0/24', undefined, '10.1.2.0/24', true],
    ['Equal', '10.1.2.0/24', undefined, '10.1.2.0/25', false],
    ['Equal', '10.1.2.0/24', undefined, '10.1.3.0/24', false],
    ['NotEqual', '10.1.2.0/24', undefined, '10.1.2.0/24', false],
    ['NotEqual', '10.1.2.0/24', undefined, '10.1.2.0/25', true],
    ['In', '10.1.0.0/20', undefined, '10.1.15.0/24', true],
    ['In', '10.1.0.0/20', undefined, '10.1.16.0/24', false],
    ['In', '10.1.0.0/20', undefined, '10.1.0.0/20', true],
    ['In', '10.1.0.0/20', undefined, '10.0.0.0/8', false],
    ['In', '0.0.0.0/0', undefined, '0.0.0.0/0', true],
    ['In', '10.0.0.0/8', { min: 16, max: 24 }, '10.1.2.0/24', true],
    ['In', '10.0.0.0/8', { min: 16, max: 24 }, '10.1.2.0/25', false],
    ['In', '10.0.0.0/8', { min: 25 }, '10.1.2.0/24', false],
    ['In', '10.0.0.0/8', { max: 16 }, '10.1.0.0/16', true],
    ['NotIn', '10.1.0.0/20', undefined, '10.1.15.0/24', false],
    ['NotIn', '10.1.0.0/20', undefined, '10.1.16.0/24', true],
    ['NotIn', '10.0.0.0/8', { min: 25 }, '10.1.2.0/24', true],
    ['In', 'fd00:1::/33', undefined, 'fd00:1:7fff::/48', true],
    ['In', 'fd00:1::/33', undefined, 'fd00:1:8000::/48', false],
    ['Equal', 'fd00:1::/48', undefined, 'fd00:1::/48', true],
  ])('%s %s %j: %s %s', (matchOperator, cidr, prefixLength, prefix, matches) => {
    const rule = { action: 'Reject', cidr, matchOperator, ...(prefixLength ? { prefixLength } : {}) };
    expect(verdict([rule], { prefix })).toBe(matches ? 'reject' : undefined);
  });
});

describe('other conditions', () => {
  test.each<[object, Route, boolean]>([
    [{ source: 'RemotePeers' }, { remote: true }, true],
    [{ source: 'RemotePeers' }, { remote: false }, false],
    [{ peerType: 'eBGP' }, { external: true }, true],
    [{ peerType: 'eBGP' }, { external: false }, false],
    [{ peerType: 'iBGP' }, { external: false }, true],
    [{ communities: { values: ['65000:100'] } }, {}, true],
    [{ communities: { values: ['65000:101'] } }, {}, false],
    [{ communities: { values: ['65000:1:2'] } }, {}, true],
    [{ communities: { values: ['65000:1:3'] } }, {}, false],
    [{ asPathPrefix: [65001] }, {}, true],
    [{ asPathPrefix: [65001, '65002'] }, {}, true],
    [{ asPathPrefix: [65001, 65002, 65003] }, {}, false],
    [{ asPathPrefix: [65002] }, {}, false],
    [{ asPathPrefix: [65001] }, { change: { asPath: [{ type: 'set', asns: [65001] }] } }, false],
    [{ priority: 1024 }, {}, true],
    [{ priority: 1024 }, { change: { localPref: 100 } }, true],
    [{ priority: 512 }, { change: { localPref: 2147483647 - 512 } }, true],
    [{ priority: 512 }, { change: { localPref: 200 } }, false],
    [{ peerType: 'eBGP', communities: { values: ['65000:100'] }, asPathPrefix: [7] }, {}, false],
  ])('%j on %j: %s', (condition, route, matches) => {
    expect(verdict([{ action: 'Reject', ...condition }], route)).toBe(matches ? 'reject' : undefined);
  });

  test('the first rule that matches decides', () => {
    const inside = { cidr: '10.1.0.0/16', matchOperator: 'In' };
    expect(verdict([{ action: 'Accept', ...inside }, { action: 'Reject' }])).toBeUndefined();
    expect(verdict([{ action: 'Reject', ...inside }, { action: 'Accept' }])).toBe('reject');
    expect(verdict([{ action: 'Accept', ...inside }, { action: 'Reject' }], { prefix: '10.2.0.0/24' })).toBe('reject');
  });

  test('rules for the other kind of peer leave no filter', () => {
    const parsed = parseFilter(resource({ exportV4: [{ action: 'Reject', peerType: 'iBGP' }] }));
    const deviceOf = () => '';
    expect(compileFilter(parsed.export[4], { family: 4, external: true, deviceOf })).toBeUndefined();
    expect(compileFilter(parsed.export[6], { family: 6, external: false, deviceOf })).toBeUndefined();
  });
});

describe('interface', () => {
  test.each([
    ['vxlan.calico', 'vxlan.calico', true],
    ['vxlan.calico', 'vxlanxcalico', false],
    ['*.calico', 'vxlan.calico', true],
    ['*.calico', 'vxlan.calico2', false],
    ['eth*', 'eth0', true],
    ['eth*', 'eth', true],
    ['eth*', 'veth0', false],
    ['*', '', true],
    ['eth0', '', false],
    ['a*b*c', 'axxbc', true],
    ['a*b*c', 'acb', false],
  ])('%s and a route through %j: %s', (pattern, device, matches) => {
    expect(verdict([{ action: 'Reject', interface: pattern }], { device })).toBe(matches ? 'reject' : undefined);
  });

  test('is one condition of several, and asked for only where the others hold', () => {
    const rules = [
      { action: 'Reject', interface: 'eth1', source: 'RemotePeers', cidr: '10.1.0.0/16', matchOperator: 'In' },
    ];
    expect(verdict(rules, { device: 'eth1' })).toBe('reject');
    expect(verdict(rules, { device: 'eth1', remote: false })).toBeUndefined();
    const asked: Lead[] = [];
    const { 4: parsed } = parseFilter(resource({ importV4: [...rules, ...rules] })).import;
    const deviceOf = (lead: Lead) => {
      asked.push(lead);
      return 'eth0';
    };
    const filter = compileFilter(parsed, { family: 4, external: true, deviceOf }) ?? expect.fail('no filter');
    expect(filter.byDevice).toBe(true);
    for (const text of ['10.2.0.0/24', '10.1.2.0/23']) {
      const { octets, length } = prefixOctets(parseCidr(text));
      expect(filter.judge(octets, 0, length, attributes, source)).toBeUndefined();
    }
    expect(asked).toEqual([{ source, attributes, prefix: '10.1.2.0/23' }]);
  });

  test('rules for other devices do not make a filter depend on them when they are for the other kind of peer', () => {
    const { 4: parsed } = parseFilter(
      resource({ importV4: [{ action: 'Reject', interface: 'eth0', peerType: 'iBGP' }, { action: 'Reject' }] }),
    ).import;
    expect(compileFilter(parsed, { family: 4, external: true, deviceOf: () => '' })).toMatchObject({ byDevice: false });
  });
});

test('operations change a copy, in their order', () => {
  const operations = verdict([
    {
      action: 'Accept',
      operations: [
        { addCommunity: { value: '65000:7' } },
        { addCommunity: { value: '65000:100' } },
        { addCommunity: { value: '4200000000:0:9' } },
        { prependASPath: { prefix: [65010, 65011] } },
        { setPriority: { value: 512 } },
      ],
    },
  ]);
  if (operations === 'reject' || operations === undefined) expect.fail('no operations');
  const after = operated(attributes, operations);
  expect(after).toEqual({
    ...attributes,
    communities: [65000 * 0x10000 + 100, 65000 * 0x10000 + 7],
    largeCommunities: [
      [65000, 1, 2],
      [4200000000, 0, 9],
    ],
    asPath: [{ type: 'sequence', asns: [65010, 65011, 65001, 65002] }],
    localPref: 2147483135,
  });
  expect(priorityOf(after)).toBe(512);
  expect(attributes.asPath).toEqual([{ type: 'sequence', asns: [65001, 65002] }]);
});

describe('refused', () => {
  test.each<[string, object]>([
    ['importV4[0].interface', { importV4: [{ action: 'Reject', interface: 'eth[01]' }] }],
    ['importV4[0].interface', { importV4: [{ action: 'Reject', interface: '' }] }],
    ['exportV6[0].interface', { exportV6: [{ action: 'Reject', interface: 'a-name-of-16-let' }] }],
    ['exportV6[0].cidr', { exportV6: [{ action: 'Reject', cidr: '10.0.0.0/8', matchOperator: 'In' }] }],
    [
      'exportV4[0].prefixLength.max',
      { exportV4: [{ action: 'Reject', cidr: '10.0.0.0/8', matchOperator: 'In', prefixLength: { max: 64 } }] },
    ],
    [
      'exportV4[0].prefixLength.min',
      { exportV4: [{ action: 'Reject', cidr: '10.0.0.0/8', matchOperator: 'In', prefixLength: { min: 9, max: 8 } }] },
    ],
    ['importV4[0]', { importV4: [{ action: 'Reject', cidr: '10.0.0.0/8' }] }],
    ['importV4[0]', { importV4: [{ action: 'Reject', operations: [{ setPriority: { value: 1 } }] }] }],
    ['importV4[0].communities.values[0]', { importV4: [{ action: 'Reject', communities: { values: ['65536:1'] } }] }],
    ['importV4[0].newCondition', { importV4: [{ action: 'Reject', newCondition: 1 }] }],
    ['importV4[0].operations[0]', { importV4: [{ action: 'Accept', operations: [{}] }] }],
  ])('%s', (field, spec) => {
    expect(() => parseFilter(resource(spec))).toThrow(expect.objectContaining({ field: `BGPFilter(f).spec.${field}` }));
  });
});
