import { expect, onTestFinished, test } from 'vitest';
import { countKernelCalls } from '../../../src/kernel/calls.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import { type IpsetMembers, type MemberChange, openIpsetMembers } from '../../../src/kernel/ipset-netlink.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { type DesiredSet, IpsetError, type SetType } from '../../../src/kernel/types.ts';
import { silent, TestNamespace } from './namespaces.ts';

function setUp() {
  const space = new TestNamespace();
  onTestFinished(() => space[Symbol.dispose]());
  const native = inNamespace(space.path, openIpsetMembers);
  onTestFinished(() => native.close());
  const make = (members?: IpsetMembers) =>
    createIpsets({ log: silent, launcher: space.launcher, ...(members && { members }) });
  /** Members as ipset prints them, sorted; undefined without the set. */
  const members = (name: string) => {
    const lines = space.run('ipset', 'save').split('\n');
    if (!lines.some((line) => line.startsWith(`create ${name} `))) return undefined;
    const found = lines.filter((line) => line.startsWith(`add ${name} `));
    return found.map((line) => line.slice(`add ${name} `.length).trim()).sort();
  };
  return { space, make, members, native };
}

function set(name: string, members: string[], type: SetType = 'hash:net'): DesiredSet {
  return { name, type, family: name.startsWith('cali6') ? 6 : 4, members: new Set(members) };
}

const sets = (...all: DesiredSet[]) => new Map(all.map((one) => [one.name, one]));

test('sets of both types and families are made, changed by deltas, adopted and destroyed', async () => {
  const { make, members } = setUp();
  const ipsets = make();
  const first = sets(
    set('cali40s:a', ['10.0.0.1/32', '10.1.0.0/16']),
    set('cali60s:a', ['fd00::1/128', 'fd01::/64']),
    set('cali40n:p', ['10.0.0.1,tcp:80', '10.0.0.1,udp:53'], 'hash:ip,port'),
    set('cali60n:p', ['fd00::1,tcp:80', 'fd00::1,sctp:9'], 'hash:ip,port'),
    set('cali40empty', []),
  );
  await ipsets.applyUpdates(first);
  expect(members('cali40s:a')).toEqual(['10.0.0.1', '10.1.0.0/16']);
  expect(members('cali60n:p')).toEqual(['fd00::1,sctp:9', 'fd00::1,tcp:80']);
  expect(members('cali40empty')).toEqual([]);
  const second = sets(set('cali40s:a', ['10.0.0.2/32', '10.1.0.0/16']), set('cali60s:a', ['fd00::1/128']));
  const adopting = make();
  await adopting.applyUpdates(second);
  expect(members('cali40s:a')).toEqual(['10.0.0.2', '10.1.0.0/16']);
  expect(members('cali60s:a')).toEqual(['fd00::1']);
  await adopting.applyDeletions(second);
  expect(members('cali40n:p')).toBeUndefined();
  expect(members('cali40empty')).toBeUndefined();
});

test('members of all forms come and go without a process', async () => {
  const { make, members, native } = setUp();
  let changes = 0;
  const watched = {
    ...native,
    change: (list: readonly MemberChange[]) => {
      changes += list.length;
      return native.change(list);
    },
  };
  const ipsets = make(watched);
  const of = (net4: string[], net6: string[], port4: string[], port6: string[]) =>
    sets(
      set('cali40s:a', net4),
      set('cali60s:a', net6),
      set('cali40n:p', port4, 'hash:ip,port'),
      set('cali60n:p', port6, 'hash:ip,port'),
    );
  await ipsets.applyUpdates(of([], ['fd00::1/128'], ['10.0.0.9,udp:53'], []));
  expect(changes).toBe(0);
  await ipsets.applyUpdates(
    of(
      ['10.0.0.1/32', '10.1.0.0/16', '10.2.0.0/31'],
      ['fd01::/64'],
      ['10.0.0.1,tcp:80', '10.0.0.1,sctp:65535'],
      ['fd00::1,udplite:258'],
    ),
  );
  expect(changes).toBe(9);
  expect(members('cali40s:a')).toEqual(['10.0.0.1', '10.1.0.0/16', '10.2.0.0/31']);
  expect(members('cali60s:a')).toEqual(['fd01::/64']);
  expect(members('cali40n:p')).toEqual(['10.0.0.1,sctp:65535', '10.0.0.1,tcp:80']);
  expect(members('cali60n:p')).toEqual(['fd00::1,udplite:258']);
});

test('what others changed meanwhile is no obstacle, and a set that they destroyed is made again', async () => {
  const { space, make, members, native } = setUp();
  const ipsets = make(native);
  await ipsets.applyUpdates(sets(set('cali40s:a', ['10.0.0.1/32']), set('cali40s:b', [])));
  space.run('ipset', 'add', 'cali40s:a', '10.0.0.2');
  space.run('ipset', 'del', 'cali40s:a', '10.0.0.1');
  space.run('ipset', 'destroy', 'cali40s:b');
  await ipsets.applyUpdates(sets(set('cali40s:a', ['10.0.0.2/32']), set('cali40s:b', [])));
  expect(members('cali40s:a')).toEqual(['10.0.0.2']);
  await ipsets.applyUpdates(sets(set('cali40s:a', ['10.0.0.2/32']), set('cali40s:b', ['10.0.0.3/32'])));
  expect(members('cali40s:b')).toEqual(['10.0.0.3']);
});

test('all addresses of a family are held as two halves', async () => {
  const { make, members } = setUp();
  const desired = sets(set('cali40all', ['0.0.0.0/0']), set('cali60all', ['::/0', 'fd00::/8']));
  const ipsets = make();
  await ipsets.applyUpdates(desired);
  expect(members('cali40all')).toEqual(['0.0.0.0/1', '128.0.0.0/1']);
  expect(members('cali60all')).toEqual(['8000::/1', '::/1', 'fd00::/8']);
  ipsets.invalidate();
  await ipsets.applyUpdates(desired);
  expect(members('cali40all')).toHaveLength(2);
});

test("other software's sets are never touched, and tampering with ours is mended after invalidate", async () => {
  const { space, make, members } = setUp();
  space.run('ipset', 'create', 'KUBE-SET', 'hash:ip');
  const desired = sets(set('cali40a', ['10.0.0.1/32']));
  const ipsets = make();
  await ipsets.applyUpdates(desired);
  space.run('ipset', 'flush', 'cali40a');
  space.run('ipset', 'add', 'cali40a', '10.9.0.0/16', 'nomatch');
  space.run('ipset', 'create', 'cali40old', 'hash:net');
  ipsets.invalidate();
  await ipsets.applyUpdates(desired);
  await ipsets.applyDeletions(desired);
  expect(members('cali40a')).toEqual(['10.0.0.1']);
  expect(members('cali40old')).toBeUndefined();
  expect(members('KUBE-SET')).toEqual([]);
  space.run('ipset', 'destroy', 'cali40a');
  ipsets.invalidate();
  await ipsets.applyUpdates(desired);
  expect(members('cali40a')).toEqual(['10.0.0.1']);
});

test('a set that must grow is swapped in under the rules that use it', async () => {
  const { space, make, members } = setUp();
  space.run('ipset', 'create', 'cali40a', 'hash:net', 'maxelem', '2');
  space.run('iptables-legacy', '-A', 'FORWARD', '-m', 'set', '--match-set', 'cali40a', 'src', '-j', 'ACCEPT');
  await make().applyUpdates(sets(set('cali40a', ['10.0.0.1/32', '10.0.0.2/32', '10.0.0.3/32'])));
  expect(members('cali40a')).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  expect(space.run('ipset', 'list', '-n').trim()).toBe('cali40a');
  expect(space.run('ipset', 'list', 'cali40a')).toMatch(/References: 1/);
});

test('another type replaces a set that no rule uses, and fails by name while one does', async () => {
  const { space, make, members } = setUp();
  const ipsets = make();
  await ipsets.applyUpdates(sets(set('cali40a', ['10.0.0.1/32']), set('cali40b', ['10.0.0.1/32'])));
  space.run('iptables-legacy', '-A', 'FORWARD', '-m', 'set', '--match-set', 'cali40b', 'src', '-j', 'ACCEPT');
  const changed = sets(
    set('cali40a', ['10.0.0.1,tcp:80'], 'hash:ip,port'),
    set('cali40b', ['10.0.0.1,tcp:80'], 'hash:ip,port'),
    set('cali40c', ['10.0.0.9/32']),
  );
  const failure = await ipsets.applyUpdates(changed).catch((thrown: unknown) => thrown);
  expect(failure).toBeInstanceOf(IpsetError);
  expect(failure instanceof IpsetError && [...failure.failed.keys()]).toEqual(['cali40b']);
  expect(members('cali40a')).toEqual(['10.0.0.1,tcp:80']);
  expect(members('cali40b')).toEqual(['10.0.0.1']);
  expect(members('cali40c')).toEqual(['10.0.0.9']);
  space.run('iptables-legacy', '-F', 'FORWARD');
  await ipsets.applyUpdates(changed);
  expect(members('cali40b')).toEqual(['10.0.0.1,tcp:80']);
});

test('bad sets fail by name, the others are made, and a set in use is not destroyed', async () => {
  const { space, make, members } = setUp();
  const ipsets = make();
  const desired = sets(
    set('cali40a', ['10.0.0.1/32']),
    set('cali40bad1', ['10.0.0.0/99']),
    set('cali40bad2', ['fd00::1/128']),
    set('cali40bad3', ['10.0.0.1/32\nflush']),
    set('cali40z', ['10.0.0.3/32']),
  );
  const failure = await ipsets.applyUpdates(desired).catch((thrown: unknown) => thrown);
  expect(failure instanceof IpsetError && [...failure.failed.keys()].sort()).toEqual([
    'cali40bad1',
    'cali40bad2',
    'cali40bad3',
  ]);
  expect(members('cali40a')).toEqual(['10.0.0.1']);
  expect(members('cali40z')).toEqual(['10.0.0.3']);
  space.run('iptables-legacy', '-A', 'FORWARD', '-m', 'set', '--match-set', 'cali40a', 'src', '-j', 'ACCEPT');
  const inUse = await ipsets.applyDeletions(sets()).catch((thrown: unknown) => thrown);
  expect(inUse instanceof IpsetError && [...inUse.failed.keys()]).toEqual(['cali40a']);
  expect(members('cali40z')).toBeUndefined();
});

test('a hundred thousand members go in at once and change by one', async () => {
  const { make, members } = setUp();
  const many = Array.from({ length: 100_000 }, (_, at) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}/32`);
  const ipsets = make();
  await ipsets.applyUpdates(sets(set('cali40a', many)));
  await ipsets.applyUpdates(sets(set('cali40a', [...many.slice(1), '11.0.0.1/32'])));
  const found = members('cali40a') ?? [];
  expect(found).toHaveLength(100_000);
  expect(found).toContain('11.0.0.1');
  expect(found).not.toContain('10.0.0.0');
});

test('thousands of sets: made in one process, adopted without a line, one changed by its own alone, destroyed', async () => {
  const { space, members } = setUp();
  const calls = countKernelCalls();
  const { launcher } = space;
  const of = (list: readonly number[]) =>
    sets(...list.map((at) => set(`cali40s:${at}`, [`10.0.${at >> 8}.${at & 255}/32`])));
  const all = Array.from({ length: 3000 }, (_, at) => at);
  await createIpsets({ log: silent, launcher, calls }).applyUpdates(of(all));
  expect(calls.ipset).toEqual({ calls: 2, errors: 0 });
  expect(members('cali40s:2999')).toEqual(['10.0.11.183']);
  const before = calls.ipsetLines;
  const ipsets = createIpsets({ log: silent, launcher, calls });
  await ipsets.applyUpdates(of(all));
  expect(calls.ipsetLines).toBe(before);
  const changed = new Map([...of(all), ['cali40s:7', set('cali40s:7', ['10.0.0.7/32', '11.0.0.1/32'])]]);
  await ipsets.applyUpdates(changed);
  expect(calls.ipsetLines - before).toBe(1);
  await ipsets.applyDeletions(of([7]));
  expect(space.run('ipset', 'list', '-n').trim()).toBe('cali40s:7');
});

test('one process for all changes of an apply, none without a change', async () => {
  const { space } = setUp();
  const { launcher, spawned } = space.counting();
  const ipsets = createIpsets({ log: silent, launcher });
  const apply = async (...desired: DesiredSet[]) => {
    const before = spawned();
    await ipsets.applyUpdates(sets(...desired));
    await ipsets.applyDeletions(sets(...desired));
    return spawned() - before;
  };
  expect(await apply(set('cali40a', ['10.0.0.1/32']), set('cali40b', ['10.0.0.1/32'])), 'save, restore').toBe(2);
  expect(await apply(set('cali40a', ['10.0.0.1/32']), set('cali40b', ['10.0.0.1/32']))).toBe(0);
  expect(await apply(set('cali40a', ['10.0.0.2/32']), set('cali40b', ['10.0.0.2/32']))).toBe(1);
  expect(await apply()).toBe(1);
});
