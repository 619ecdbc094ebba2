import { expect, test } from 'vitest';
import type { Event } from '../../../src/datastore/store.ts';
import { Graph } from '../../../src/felix/calc/graph.ts';
import { ServiceLoops } from '../../../src/felix/calc/service-loops.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { configured, entry, node, silent, tunnels } from './support.ts';

const key = { type: 'BGPConfiguration', name: 'default' } as const;

function ranges(spec: object): Event {
  const metadata = { name: 'default' };
  const apiVersion = 'projectcalico.org/v3';
  return {
    op: 'set',
    entry: entry(key, parseResource('BGPConfiguration', { kind: key.type, apiVersion, metadata, spec })),
  };
}

const given = ranges({
  serviceClusterIPs: [{ cidr: '10.96.0.0/16' }, { cidr: 'fd96::/112' }],
  serviceLoadBalancerIPs: [{ cidr: '203.0.113.7/32' }],
});
const table = { chains: new Map([['cali-FORWARD', ['-j first']]]), insertions: new Map() };

test('packets to service addresses that nobody serves end last in FORWARD', () => {
  const loops = new ServiceLoops();
  expect(loops.guarded(table, 4)).toBe(table);
  loops.apply(given);
  expect(Object.fromEntries(loops.guarded(table, 4).chains)).toEqual({
    'cali-FORWARD': ['-j first', '-j cali-cidr-block'],
    'cali-cidr-block': ['-d 10.96.0.0/16 -j DROP', '-d 203.0.113.7/32 -j DROP'],
  });
  loops.configure('REJECT');
  expect(loops.guarded(table, 6).chains.get('cali-cidr-block')).toEqual(['-d fd96::/112 -j REJECT']);
  loops.configure('DISABLED');
  expect(loops.guarded(table, 4)).toBe(table);
});

test('other rules have another version, and the same have the same', () => {
  const loops = new ServiceLoops();
  const versions = [loops.version];
  const then = (action: () => void) => {
    action();
    versions.push(loops.version);
  };
  then(() => loops.apply(given));
  then(() => loops.apply(given));
  then(() => loops.configure('DROP'));
  then(() => loops.configure('REJECT'));
  then(() => loops.apply({ op: 'invalid', entry: { key, error: new Error('bad') } }));
  then(() => loops.apply({ op: 'delete', key }));
  expect(versions).toEqual([0, 1, 1, 1, 2, 2, 3]);
});

test('routes to services that other nodes announce stay out, but for those to a range of one address', () => {
  const policy = new RenderedPolicy(node, configured(), silent);
  const calc = new Graph({ node, families: [4], interfacePrefix: 'cali', policy, tunnels, plain: false });
  const nextHops = [parseIp('192.0.2.2')];
  const prefixes = ['10.96.0.0/16', '10.96.0.5/32', '10.97.0.0/16', '203.0.113.7/32'];
  for (const prefix of prefixes) calc.applyFeed({ type: 'route', prefix: parseCidr(prefix), nextHops, source: 'ibgp' });
  expect([...calc.routes.winners.keys()]).toEqual(prefixes);
  const before = calc.firewall();
  calc.apply(given);
  expect([...calc.routes.winners.keys()]).toEqual(['10.97.0.0/16', '203.0.113.7/32']);
  const chains = calc.firewall().tables.get(4)?.get('filter')?.chains;
  expect(chains?.get('cali-cidr-block')).toHaveLength(2);
  expect(chains?.get('cali-FORWARD')?.at(-1)).toBe('-j cali-cidr-block');
  calc.apply({ op: 'delete', key });
  expect([...calc.routes.winners.keys()].sort()).toEqual(prefixes);
  expect(calc.firewall().tables.get(4)?.get('filter')).toEqual(before.tables.get(4)?.get('filter'));
});
