import { expect, test } from 'vitest';
import { countKernelCalls } from '../../../src/kernel/calls.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { type DesiredSet, type DesiredTable, IpsetError, IptablesError } from '../../../src/kernel/types.ts';
import { silent } from '../felix/support.ts';

/** Stands in for the programs: what is saved is empty, and what is restored is read; exit statuses as given. */
const programs = (save: number, restore: number) => [
  'sh',
  '-c',
  `case "$*" in *save*) exit ${save};; *) cat >/dev/null; exit ${restore};; esac`,
  '--',
];
const filter: DesiredTable = { chains: new Map([['cali-x', ['-j DROP']]]), insertions: new Map() };
const set: DesiredSet = { name: 'cali40x', type: 'hash:net', family: 4, members: new Set(['10.0.0.0/8']) };

test('calls, errors and lines of iptables', async () => {
  const calls = countKernelCalls();
  const driver = (save: number, restore: number) =>
    createIptables({ family: 4, backend: 'legacy', log: silent, calls, launcher: programs(save, restore) });
  await driver(0, 0).apply(new Map([['filter', filter]]));
  expect(calls).toMatchObject({ save: { calls: 1, errors: 0 }, restore: { calls: 1, errors: 0 } });
  expect([...calls.lines]).toEqual([['4 filter', 2]]);
  await expect(driver(0, 2).apply(new Map([['filter', filter]]))).rejects.toThrow(IptablesError);
  expect(calls).toMatchObject({ save: { calls: 2, errors: 0 }, restore: { calls: 2, errors: 1 } });
  await expect(driver(1, 0).apply(new Map([['filter', filter]]))).rejects.toThrow(IptablesError);
  expect(calls).toMatchObject({ save: { calls: 3, errors: 1 }, restore: { calls: 2, errors: 1 } });
  expect([...calls.lines]).toEqual([['4 filter', 2]]);
});

test('calls, errors and lines of ipset', async () => {
  const calls = countKernelCalls();
  const sets = (save: number, restore: number) =>
    createIpsets({ log: silent, calls, launcher: programs(save, restore) });
  await sets(0, 0).applyUpdates(new Map([[set.name, set]]));
  expect(calls).toMatchObject({ ipset: { calls: 2, errors: 0 }, ipsetLines: 2 });
  await expect(sets(0, 1).applyUpdates(new Map([[set.name, set]]))).rejects.toThrow(IpsetError);
  expect(calls.ipset).toMatchObject({ errors: 1 });
  // A program that is not there is an error too.
  const nobody = createIpsets({ log: silent, calls, launcher: ['/nonexistent'] });
  await expect(nobody.applyUpdates(new Map([[set.name, set]]))).rejects.toThrow('not installed');
  expect(calls.ipset.errors).toBe(2);
});
