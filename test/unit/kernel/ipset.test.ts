import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { type ActualSet, parseIpsetSave, planSet } from '../../../src/kernel/ipset-plan.ts';
import type { DesiredSet } from '../../../src/kernel/types.ts';

const noSpare = () => expect.fail('no set beside was to be made');

function net(members: string[], change: Partial<DesiredSet> = {}): DesiredSet {
  return { name: 'cali40a', type: 'hash:net', family: 4, members: new Set(members), ...change };
}

function actual(members: string[], change: Partial<ActualSet> = {}): ActualSet {
  return { type: 'hash:net', family: 4, maxElements: 1 << 20, members: new Set(members), ...change };
}

test('a new set is created and filled; later only the members that differ are named, removals first', () => {
  expect(planSet(net(['10.0.0.1/32']), undefined, noSpare).lines).toEqual([
    'create cali40a hash:net family inet maxelem 1048576',
    'add cali40a 10.0.0.1/32',
  ]);
  expect(
    planSet(net(['10.0.0.1/32', '10.2.0.0/16']), actual(['10.0.0.1/32', '10.1.0.0/16 nomatch']), noSpare).lines,
  ).toEqual(['del cali40a 10.1.0.0/16', 'add cali40a 10.2.0.0/16']);
});

test('a set that is too small is filled beside and swapped in', () => {
  const { lines, after } = planSet(
    net(['10.0.0.1/32', '10.0.0.2/32']),
    actual([], { maxElements: 1 }),
    () => 'cali40.tmp0',
  );
  expect(lines).toEqual([
    'create cali40.tmp0 hash:net family inet maxelem 1048576',
    'add cali40.tmp0 10.0.0.1/32',
    'add cali40.tmp0 10.0.0.2/32',
    'swap cali40.tmp0 cali40a',
    'destroy cali40.tmp0',
  ]);
  expect(after.maxElements).toBe(1 << 20);
});

test("what ipset save says, in the form of desired sets; others' sets left out", () => {
  const saved = [
    'create KUBE-X hash:ip family inet hashsize 1024 maxelem 65536',
    'add KUBE-X 10.0.0.1',
    'create cali40a hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5',
    'add cali40a 10.0.0.1',
    'add cali40a 10.1.0.0/16 nomatch',
    'create cali60p hash:ip,port family inet6 hashsize 1024 maxelem 65536',
    'add cali60p fd00::1,tcp:80',
    '',
  ].join('\n');
  expect(parseIpsetSave(saved)).toEqual(
    new Map<string, ActualSet>([
      ['cali40a', actual(['10.0.0.1/32', '10.1.0.0/16 nomatch'], { maxElements: 65_536 })],
      ['cali60p', { type: 'hash:ip,port', family: 6, maxElements: 65_536, members: new Set(['fd00::1,tcp:80']) }],
    ]),
  );
});

test('names, types and members that cannot be are refused by name', () => {
  const refused: DesiredSet[] = [
    net([], { name: 'KUBE-X' }),
    net([], { name: 'cali60a' }),
    net([], { name: `cali40${'x'.repeat(26)}` }),
    net([], { name: 'cali40 a' }),
    net(['10.0.0.1']),
    net(['fd00::/64']),
    net(['10.0.0.0/8\nflush']),
    net(['10.0.0.1/32'], { type: 'hash:ip,port' }),
    net(['10.0.0.1,gre:1'], { type: 'hash:ip,port' }),
  ];
  for (const set of refused) expect(() => planSet(set, undefined, noSpare), set.name).toThrow(InputError);
});
