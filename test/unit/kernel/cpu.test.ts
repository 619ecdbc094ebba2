import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { childMilliseconds, cpuMilliseconds } from '../../../src/kernel/cpu.ts';

test('ended programs of /proc/PID/stat, whatever the name', () => {
  const before = Array.from({ length: 13 }, (_, at) => (at === 0 ? 'S' : '9')).join(' ');
  expect(childMilliseconds(`7 (a) b) ${before} 12 30 20 0\n`)).toBe(420);
});

test('work of this thread and of programs counts, waiting does not', async () => {
  const began = cpuMilliseconds();
  execFileSync('sh', ['-c', 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done']);
  const program = cpuMilliseconds() - began;
  expect(program).toBeGreaterThan(20);
  const waited = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(cpuMilliseconds() - began - program).toBeLessThan((performance.now() - waited) / 2);
});
