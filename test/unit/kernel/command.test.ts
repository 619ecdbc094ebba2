import { expect, test } from 'vitest';
import { EnvironmentError } from '../../../src/base/errors.ts';
import { runCommand } from '../../../src/kernel/command.ts';
import { Serial } from '../../../src/kernel/serial.ts';

const options = { package: 'coreutils' };

test('output, words and status come back; a status is no error', async () => {
  expect(await runCommand(['sh', '-c', 'cat; echo no >&2; exit 3'], { ...options, input: 'in' })).toEqual({
    status: 3,
    stdout: 'in',
    stderr: 'no\n',
  });
});

test('a missing program is named with the package that holds it, with and without a launcher', async () => {
  for (const launcher of [[], ['env']]) {
    const failure = await runCommand(['no-such-program'], { package: 'iptables', launcher }).catch((thrown) => thrown);
    expect(failure).toBeInstanceOf(EnvironmentError);
    expect(failure).toMatchObject({
      problem: 'the program no-such-program is not installed',
      remedy: 'install the package iptables',
    });
  }
});

test('a program that does not read its input is no failure', async () => {
  expect(await runCommand(['true'], { ...options, input: 'x'.repeat(1 << 22) })).toMatchObject({ status: 0 });
});

test('a program that hangs is ended', async () => {
  const result = await runCommand(['sleep', '600'], { ...options, timeoutSeconds: 0.05 });
  expect(result).toMatchObject({ status: -1, stderr: 'ended by SIGKILL' });
});

test('serial actions run in the order of the calls, also after a failure', async () => {
  const serial = new Serial();
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = serial.run(async () => {
    await gate.promise;
    order.push('first');
    throw new Error('first failed');
  });
  const second = serial.run(async () => order.push('second'));
  gate.resolve();
  await expect(first).rejects.toThrow('first failed');
  expect(await second).toBe(2);
  expect(order).toEqual(['first', 'second']);
});
