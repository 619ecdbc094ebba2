import { expect, test } from 'vitest';
import { faultIn } from '../../../src/lab/checks.ts';
import { unhindered } from '../../../src/lab/down.ts';
import { run } from '../../../src/lab/run.ts';

test.each([
  ['what it says on standard error', ['sh', '-c', 'echo page; echo why >&2; exit 3'], /^sh -c .*: why$/],
  ['else what it printed', ['sh', '-c', 'echo page; exit 3'], /^sh -c .*: page$/],
  ['else its status', ['sh', '-c', 'exit 3'], /^sh -c .*: ended with 3$/],
  ['why it never ran', ['/nonexistent/program'], /ENOENT/],
])('a program that fails is told by %s', async (_, [command = '', ...args], message) => {
  await expect(run(command, args)).rejects.toThrow(message);
});

test('a program is in a session of its own, so that a terminal does not end what cleans up', async () => {
  // Fields 1 and 6 of proc_pid_stat(5): its ID and its session's.
  const stat = await run('cat', ['/proc/self/stat'], { input: 'unread' });
  const [pid, , , , , session] = stat.split(' ');
  expect(session).toBe(pid);
});

test('what a program that a signal ended is told by is the signal', async () => {
  await expect(run('sh', ['-c', 'kill -9 $$'])).rejects.toThrow(/ended with SIGKILL$/);
});

test('a command that a signal ended is done again, another failure is not', async () => {
  let times = 0;
  expect(await unhindered(() => run('sh', ['-c', ++times < 3 ? 'kill -INT $$' : 'echo done']))).toBe('done\n');
  expect(times).toBe(3);
  await expect(unhindered(() => run('sh', ['-c', `exit ${++times}`]))).rejects.toThrow('ended with 4');
});

test("of the doctor's page the faults are shown, of another its end", () => {
  expect(faultIn('nsenter: ✓ felix: runs\n✗ bgp: does not answer\n✓ cni: there\n✗ rules: none\n')).toBe(
    '✗ bgp: does not answer ✗ rules: none',
  );
  expect(faultIn(`${'x'.repeat(400)} no such pod\n`)).toMatch(/^x{288} no such pod$/);
});
