import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { sweepOtherBackend } from '../../../src/felix/other-backend.ts';
import { detectBackend, savedRules } from '../../../src/kernel/iptables/backend.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { type DesiredTable, IptablesError, type RuleText, type TableName } from '../../../src/kernel/types.ts';
import { silent, TestNamespace } from './namespaces.ts';

type Chains = Record<string, RuleText[]>;

function table(chains: Chains, insertions: Chains = {}, appendices: Chains = {}): DesiredTable {
  const map = (from: Chains) => new Map(Object.entries(from));
  return { chains: map(chains), insertions: map(insertions), appendices: map(appendices) };
}

function only(desired: DesiredTable): ReadonlyMap<TableName, DesiredTable> {
  return new Map([['filter', desired]]);
}

function namespace(): TestNamespace {
  const made = new TestNamespace();
  onTestFinished(() => made[Symbol.dispose]());
  return made;
}

const cases = [
  { backend: 'legacy', family: 4 },
  { backend: 'legacy', family: 6 },
  { backend: 'nft', family: 4 },
  { backend: 'nft', family: 6 },
] as const;

describe.each(cases)('iptables $backend IPv$family', ({ backend, family }) => {
  const program = `ip${family === 6 ? '6' : ''}tables-${backend}`;
  const foreignAddress = family === 6 ? 'fd00:5::/64' : '192.0.2.0/24';

  function setUp() {
    const space = namespace();
    const make = () => createIptables({ family, backend, log: silent, launcher: space.launcher });
    const save = (counters = false) =>
      space
        .run(`${program}-save`, ...(counters ? ['-c'] : []))
        .split('\n')
        .filter((line) => /^(\[\d+:\d+\] )?-A|^\*|^:/.test(line));
    /** Rules of a chain without our comment, as the kernel has them. */
    const rules = (chain: string) =>
      save()
        .filter((line) => line.startsWith(`-A ${chain} `))
        .map((line) => line.replace(/-m comment --comment "cali:[^"]*" /, ''));
    const foreign = () =>
      save().filter((line) => !line.includes('cali') && !/^:[A-Z]+ /.test(line) && !line.startsWith('*'));
    space.run(program, '-N', 'KUBE-FORWARD');
    space.run(program, '-A', 'KUBE-FORWARD', '-m', 'mark', '--mark', '0x4000/0x4000', '-j', 'ACCEPT');
    space.run(program, '-A', 'FORWARD', '-m', 'comment', '--comment', 'kubernetes forwarding', '-j', 'KUBE-FORWARD');
    space.run(program, '-A', 'FORWARD', '-s', foreignAddress, '-j', 'ACCEPT');
    return { space, make, save, rules, foreign };
  }

  const first = table(
    {
      'cali-FORWARD': ['-i cali+ -j cali-from-wl', '-o cali+ -j cali-to-wl'],
      'cali-from-wl': [
        '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        '-p tcp -m multiport --dports 80,443 -j ACCEPT',
      ],
      'cali-to-wl': ['-m comment --comment "dropped, as \\"deny\\" says" -j DROP'],
    },
    { FORWARD: ['-j cali-FORWARD'] },
    { FORWARD: ['-m mark --mark 0x10000/0x10000 -j ACCEPT'] },
  );

  test('chains, a jump at the top and a rule at the end appear; foreign rules stay as they were', async () => {
    const { make, rules, foreign } = setUp();
    const before = foreign();
    const iptables = make();
    expect(await iptables.apply(only(first))).toEqual({ changedChains: 4 });
    expect(rules('FORWARD')).toEqual([
      '-A FORWARD -j cali-FORWARD',
      '-A FORWARD -m comment --comment "kubernetes forwarding" -j KUBE-FORWARD',
      `-A FORWARD -s ${foreignAddress} -j ACCEPT`,
      '-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT',
    ]);
    expect(rules('cali-FORWARD')).toHaveLength(2);
    expect(foreign()).toEqual(before);
    expect(await iptables.apply(only(first))).toEqual({ changedChains: 0 });
  });

  test('one process for a change in two tables, none without a change', async () => {
    const { space } = setUp();
    const { launcher, spawned } = space.counting();
    const iptables = createIptables({ family, backend, log: silent, launcher });
    const both = (port: number) =>
      new Map<TableName, DesiredTable>([
        ['filter', table({ 'cali-a': [`-p tcp -m tcp --dport ${port} -j ACCEPT`] }, { FORWARD: ['-j cali-a'] })],
        ['raw', table({ 'cali-r': [`-p tcp -m tcp --dport ${port} -j DROP`] }, { PREROUTING: ['-j cali-r'] })],
      ]);
    await iptables.apply(both(1));
    expect(spawned(), 'one save, one restore').toBe(2);
    await iptables.apply(both(1));
    expect(spawned()).toBe(2);
    await iptables.apply(both(2));
    const kept = backend === 'nft';
    expect(spawned(), 'nft keeps its restore program running').toBe(kept ? 2 : 3);
    iptables.invalidate();
    await iptables.apply(both(2));
    expect(spawned()).toBe(kept ? 3 : 4);
  });

  test('a restore program that was killed is started again', async () => {
    const { space, make, rules } = setUp();
    const iptables = make();
    await iptables.apply(only(first));
    for (const pid of space.processes()) process.kill(pid, 'SIGKILL');
    await iptables.apply(only(table({ 'cali-x': ['-j DROP'] }, { FORWARD: ['-j cali-x'] })));
    expect(rules('cali-x')).toEqual(['-A cali-x -j DROP']);
    expect(rules('cali-FORWARD')).toEqual([]);
  });

  test('without stdbuf each change is a process of its own', async () => {
    const { space, rules } = setUp();
    const programs = mkdtempSync(join(tmpdir(), 'margay-path-'));
    onTestFinished(() => rmSync(programs, { recursive: true }));
    for (const name of [`${program}-restore`, `${program}-save`])
      symlinkSync(`/usr/sbin/${name}`, join(programs, name));
    const launcher = [...space.launcher, '/usr/bin/env', `PATH=${programs}`];
    const iptables = createIptables({ family, backend, log: silent, launcher });
    for (const target of ['DROP', 'ACCEPT']) {
      await iptables.apply(only(table({ 'cali-x': [`-j ${target}`] }, { FORWARD: ['-j cali-x'] })));
      expect(rules('cali-x')).toEqual([`-A cali-x -j ${target}`]);
    }
  });

  test('a new process adopts what the last one wrote', async () => {
    const { make, save } = setUp();
    await make().apply(only(first));
    const before = save(true);
    expect(await make().apply(only(first))).toEqual({ changedChains: 0 });
    expect(save(true)).toEqual(before);
  });

  test('going back to nothing leaves the foreign rules alone', async () => {
    const { make, save, foreign } = setUp();
    const [before, all] = [foreign(), save()];
    const iptables = make();
    await iptables.apply(only(first));
    await iptables.apply(only(table({})));
    expect(foreign()).toEqual(before);
    expect(save()).toEqual(all);
  });

  test('what others deleted, flushed, moved or added is mended after invalidate', async () => {
    const { space, make, save } = setUp();
    const iptables = make();
    await iptables.apply(only(first));
    const good = save();
    const harm = [
      ['-D', 'FORWARD', '1'],
      ['-F', 'cali-FORWARD'],
      ['-D', 'cali-from-wl', '1'],
      ['-I', 'cali-to-wl', '1', '-j', 'ACCEPT'],
      ['-I', 'FORWARD', '1', '-j', 'cali-to-wl'],
      ['-A', 'FORWARD', '-j', 'cali-FORWARD'],
      ['-N', 'cali-leftover'],
    ];
    for (const command of harm) {
      space.run(program, ...command);
      iptables.invalidate();
      await iptables.apply(only(first));
      expect(save(), command.join(' ')).toEqual(good);
    }
    space.run(program, '-I', 'FORWARD', '1', '-s', foreignAddress, '-j', 'DROP');
    iptables.invalidate();
    await iptables.apply(only(first));
    expect(save().filter((line) => line.startsWith('-A FORWARD'))[0]).toContain('cali-FORWARD');
  });

  test('a change from a stale view is made good within the same apply', async () => {
    const { space, make, rules } = setUp();
    const iptables = make();
    await iptables.apply(only(first));
    space.run(program, '-F', 'FORWARD');
    const changed = table(Object.fromEntries(first.chains) as Chains, { FORWARD: ['-i cali+ -j cali-FORWARD'] });
    await iptables.apply(only(changed));
    expect(rules('FORWARD')).toEqual(['-A FORWARD -i cali+ -j cali-FORWARD']);
  });

  test('a refused rule is named, the last good state stays, and other tables go on', async () => {
    const { make, save } = setUp();
    const iptables = make();
    await iptables.apply(only(first));
    const good = save();
    const bad = table({ ...(Object.fromEntries(first.chains) as Chains), 'cali-bad': ['-p tcp --no-such-option 5'] });
    const raw = table({ 'cali-PREROUTING': ['-j ACCEPT'] }, { PREROUTING: ['-j cali-PREROUTING'] });
    const failure = await iptables
      .apply(
        new Map<TableName, DesiredTable>([
          ['filter', bad],
          ['raw', raw],
        ]),
      )
      .catch((thrown: unknown) => thrown);
    expect(failure).toBeInstanceOf(IptablesError);
    const named = expect.stringMatching(/-A cali-bad .*--no-such-option 5/);
    expect(failure).toMatchObject({ line: named, message: named });
    const after = save();
    for (const line of good) expect(after).toContain(line);
    expect(after.filter((line) => line.includes('PREROUTING'))).toHaveLength(4);
    expect(after.join('\n')).not.toContain('cali-bad');
  });

  test('a chain that goes may still be referred to by one that goes with it, or by one that stays and changes', async () => {
    const { make, save } = setUp();
    const iptables = make();
    await iptables.apply(only(first));
    await iptables.apply(
      only(
        table({ 'cali-FORWARD': ['-i cali+ -j cali-new'], 'cali-new': ['-j DROP'] }, { FORWARD: ['-j cali-FORWARD'] }),
      ),
    );
    expect(save().filter((line) => line.startsWith(':cali'))).toEqual([':cali-FORWARD - [0:0]', ':cali-new - [0:0]']);
  });

  test('many random changes end in exactly the desired rules', async () => {
    const { make, rules, foreign } = setUp();
    const before = foreign();
    const iptables = make();
    for (let round = 0; round < 12; round++) {
      const ports = Array.from({ length: 8 }, (_, at) => 1000 + ((at * 7 + round * 3) % 11));
      const chain = ports
        .filter((port) => (port + round) % 3 !== 0)
        .map((port) => `-p tcp -m tcp --dport ${port} -j ACCEPT`);
      const chains: Chains = { 'cali-a': [...chain, '-j DROP'] };
      if (round % 2) chains['cali-b'] = ['-j RETURN'];
      await iptables.apply(only(table(chains, { FORWARD: ['-j cali-a', ...(round % 2 ? ['-j cali-b'] : [])] })));
      expect(rules('cali-a')).toEqual([...chain, '-j DROP'].map((rule) => `-A cali-a ${rule}`));
      if (round % 4 === 3) iptables.invalidate();
    }
    expect(foreign()).toEqual(before);
  });

  if (backend === 'legacy')
    test('counters of rules that stay survive a change beside them', async () => {
      const { space, make, save } = setUp();
      const counted = family === 6 ? '-p icmpv6 -j ACCEPT' : '-p icmp -j ACCEPT';
      const chains = (rules: RuleText[]) => only(table({ 'cali-OUTPUT': rules }, { OUTPUT: ['-j cali-OUTPUT'] }));
      const iptables = make();
      await iptables.apply(chains(['-p tcp -j ACCEPT', counted]));
      space.run('ping', '-c', '1', family === 6 ? '::1' : '127.0.0.1');
      await iptables.apply(chains(['-p udp -j ACCEPT', '-p tcp -j ACCEPT', counted, '-j RETURN']));
      const line = save(true).find((one) => one.includes('icmp'));
      expect(line).toMatch(/^\[[1-9]/);
    });
});

test('legacy waits for another program that holds the xtables lock', async () => {
  const space = namespace();
  const directory = mkdtempSync(join(tmpdir(), 'margay-lock-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const lock = join(directory, 'xtables.lock');
  const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; read release'], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void holder.kill());
  await once(holder.stdout, 'data');
  const launcher = ['env', `XTABLES_LOCKFILE=${lock}`, ...space.launcher];
  const options = { family: 4, backend: 'legacy', log: silent, launcher } as const;
  const desired = only(table({ 'cali-a': ['-j DROP'] }));
  await expect(createIptables({ ...options, lockWaitSeconds: 1 }).apply(desired)).rejects.toMatchObject({
    locked: true,
  });
  const waiting = createIptables({ ...options, lockWaitSeconds: 30 }).apply(desired);
  holder.stdin.end('now\n');
  expect(await waiting).toEqual({ changedChains: 1 });
});

describe('backend', () => {
  test.each(['legacy', 'nft'] as const)("kubelet's hint in %s decides", async (backend) => {
    const space = namespace();
    expect(await detectBackend({ launcher: space.launcher })).toBe('nft');
    space.run(`iptables-${backend}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
    expect(await detectBackend({ launcher: space.launcher })).toBe(backend);
  });

  test.each(['legacy', 'nft'] as const)('a host with the programs of %s alone has that one', async (backend) => {
    const space = namespace();
    const programs = mkdtempSync(join(tmpdir(), 'margay-path-'));
    onTestFinished(() => rmSync(programs, { recursive: true }));
    symlinkSync(`/usr/sbin/iptables-${backend}-save`, join(programs, `iptables-${backend}-save`));
    symlinkSync(`/usr/sbin/iptables-${backend}`, join(programs, 'iptables'));
    const launcher = [...space.launcher, '/usr/bin/env', `PATH=${programs}`];
    expect(await detectBackend({ launcher })).toBe(backend);
    const other = backend === 'nft' ? 'legacy' : 'nft';
    expect([await savedRules(4, backend, { launcher }), await savedRules(4, other, { launcher })]).toEqual([
      expect.any(String),
      undefined,
    ]);
    const driverOf = () => expect.fail('there is no driver to be asked');
    expect(await sweepOtherBackend(backend, [4, 6], driverOf, { launcher })).toBe(0);
  });

  test("without kubelet's, kube-proxy's chain decides; other chains and tables do not", async () => {
    const space = namespace();
    const detected = () => detectBackend({ launcher: space.launcher });
    space.run('iptables-legacy', '-t', 'nat', '-N', 'KUBE-PROXY-CANARY');
    space.run('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-PROXY-CANARY-2');
    expect(await detected()).toBe('nft');
    space.run('iptables-legacy', '-t', 'mangle', '-N', 'KUBE-PROXY-CANARY');
    expect(await detected()).toBe('legacy');
    space.run('iptables-nft', '-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY');
    expect(await detected()).toBe('nft');
  });
});
