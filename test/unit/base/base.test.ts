import { describe, expect, test } from 'vitest';
import { Backoff } from '../../../src/base/backoff.ts';
import { type Clock, pause } from '../../../src/base/clock.ts';
import { EnvironmentError, explain, InputError } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { diff } from '../../../src/base/reconcile.ts';
import { Trigger } from '../../../src/base/trigger.ts';

/** A clock whose timers fire when the test says so. */
function manualClock(): Clock & { fireAll(): void; armed(): number } {
  const timers = new Set<() => void>();
  return {
    monotonic: () => 0,
    wall: () => new Date(0),
    after: (_, action) => {
      timers.add(action);
      return () => timers.delete(action);
    },
    fireAll: () => {
      for (const timer of [...timers]) {
        timers.delete(timer);
        timer();
      }
    },
    armed: () => timers.size,
  };
}

describe('errors', () => {
  test('an input error names the field, the value and what was expected', () => {
    const error = new InputError('IPPool(default).spec.cidr', '10.0.0.0/40', 'a prefix length of at most 32');
    expect(error.message).toBe('IPPool(default).spec.cidr: "10.0.0.0/40": expected a prefix length of at most 32');
    const beyond = { serial: [2n ** 63n] };
    expect(new InputError('x', beyond, 'a name').message).toBe('x: {"serial":[9223372036854775808]}: expected a name');
    expect(new InputError('x', undefined, 'a name').message).toBe('x: missing: expected a name');
    expect(new InputError('x', 'y'.repeat(1000), 'less').message.length).toBeLessThan(160);
  });

  test('explain follows the causes, and says last what to do', () => {
    const inner = new Error('connection refused');
    expect(explain(new EnvironmentError('etcd is down', 'start it', { cause: inner }))).toBe(
      'etcd is down: connection refused; start it',
    );
    expect(explain('text')).toBe('text');
  });
});

describe('Backoff', () => {
  test('doubles up to the limit, and starts over', () => {
    const most = new Backoff(100, 1000, () => 1);
    expect([most.next(), most.next(), most.next(), most.next(), most.next(), most.next()]).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
    most.reset();
    expect(most.next()).toBe(100);
    expect(new Backoff(100, 1000, () => 0).next()).toBe(50);
  });
});

describe('Trigger', () => {
  test('many firings wake one wait', async () => {
    const clock = manualClock();
    const trigger = new Trigger(clock);
    const { signal } = new AbortController();
    trigger.fire();
    trigger.fire();
    expect(await trigger.wait(undefined, signal)).toBe(true);
    const second = trigger.wait(1000, signal);
    clock.fireAll();
    expect(await second).toBe(false);
  });

  test('a firing during the wait ends it and disarms the timer', async () => {
    const clock = manualClock();
    const trigger = new Trigger(clock);
    const waiting = trigger.wait(1000, new AbortController().signal);
    trigger.fire();
    expect(await waiting).toBe(true);
    expect(clock.armed()).toBe(0);
  });

  test('an abort ends the wait', async () => {
    const abort = new AbortController();
    const waiting = new Trigger(manualClock()).wait(undefined, abort.signal);
    abort.abort();
    expect(await waiting).toBe(false);
  });
});

test('a pause ends with its timer or its signal and leaves no timer behind', async () => {
  const clock = manualClock();
  const abort = new AbortController();
  const first = pause(clock, 10, abort.signal);
  clock.fireAll();
  await first;
  const second = pause(clock, 10, abort.signal);
  abort.abort();
  await second;
  expect(clock.armed()).toBe(0);
});

test('diff finds what is missing, different and superfluous', () => {
  const desired = new Map([
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ]);
  const actual = new Map([
    ['a', 1],
    ['b', 9],
    ['d', 4],
  ]);
  expect(diff(desired, actual, (x, y) => x === y)).toEqual({
    upserts: [
      ['b', 2],
      ['c', 3],
    ],
    deletes: ['d'],
  });
});

describe('log', () => {
  test('secrets never reach a line', () => {
    const lines: string[] = [];
    const log = createLog('test', 'INFO', { write: (line) => lines.push(line) });
    log.info(
      { config: { password: 'hunter2' }, token: 'abc', peer: { auth: { password: 'hunter2' } } },
      'peer configured',
    );
    expect(lines.join()).toContain('peer configured');
    expect(lines.join()).not.toMatch(/hunter2|abc/);
  });

  test('an unknown level is refused by name', () => {
    expect(() => createLog('test', 'loud')).toThrow(/log level: "loud"/);
  });
});
