import { expect, test } from 'vitest';
import { faultIn } from '../../../src/lab/checks.ts';
import { run } from '../../../src/lab/run.ts';

test.each([
  ['what it says on standard error', ['sh', '-c', 'echo page; echo why >&2; exit 3'], /^sh -c .*: why$/],
  ['else what it printed', ['sh', '-c', 'echo page; exit 3'], /^sh -c .*: page$/],
  ['else its status', ['sh', '-c', 'exit 3'], /^sh -c .*: ended with 3$/],
  ['why it never ran', ['/nonexistent/program'], /ENOENT/],
])('a program that fails is told by %s', async (_, [command = '', ...args], message) => {
  await expect(run(command, args)).rejects.toThrow(message);
});

test("of the doctor's page the faults are shown, of another its end", () => {
  expect(faultIn('nsenter: ✓ felix: runs\n✗ bgp: does not answer\n✓ cni: there\n✗ rules: none\n')).toBe(
    '✗ bgp: does not answer ✗ rules: none',
  );
  expect(faultIn(`${'x'.repeat(400)} no such pod\n`)).toMatch(/^x{288} no such pod$/);
});
