import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { Attempts } from '../../../src/bgp/attempts.ts';
import type { Ending } from '../../../src/bgp/fsm.ts';
import { errorCodes, subcodes } from '../../../src/bgp/wire/errors.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const lost: Ending = { by: 'tcp', reason: 'connection reset' };
const cease = (subcode: number) => ({ code: errorCodes.cease, subcode, data: new Uint8Array() });
const refused: Ending = { by: 'peer', reason: 'cease', notification: cease(subcodes.cease.rejected) };
const resetByUs: Ending = { by: 'us', reason: 'reset', notification: cease(subcodes.cease.reset) };

function fresh() {
  const clock = new ManualClock();
  return { clock, attempts: new Attempts('tor', { clock, log: createLog('test', 'silent'), random: () => 1 }) };
}

test('errors make the pause longer up to 30 s, a session that lasted makes it the first again', () => {
  const { clock, attempts } = fresh();
  const pauses: number[] = [];
  for (let i = 0; i < 7; i++) {
    attempts.ended(refused, true, false);
    pauses.push(attempts.pauseAfter(refused));
    expect(attempts.refusing).toBe(true);
    clock.advance(attempts.idleHoldSeconds * 1000);
    expect(attempts.refusing).toBe(false);
  }
  expect(pauses).toEqual([1, 2, 4, 8, 16, 30, 30]);
  attempts.lasted(60_000);
  attempts.ended(refused, true, false);
  expect(attempts.idleHoldSeconds).toBe(30);
  attempts.lasted(60_001);
  attempts.ended(refused, true, false);
  expect(attempts.idleHoldSeconds).toBe(1);
});

test('dials that fail come less often up to 5 s, and at once again after a session', () => {
  const { attempts } = fresh();
  const pauses = Array.from({ length: 7 }, () => {
    attempts.ended(lost, false, false);
    return attempts.pauseAfter(lost);
  });
  expect(pauses).toEqual([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5]);
  expect(attempts.refusing).toBe(false);
  attempts.established();
  expect(attempts.retrySeconds).toBe(0.1);
  attempts.ended(lost, true, false);
  expect(attempts.retrySeconds).toBe(0.1);
});

test('our own stop is no error; an operator’s reset is told, and nobody waits for it', () => {
  const { attempts } = fresh();
  attempts.ended(resetByUs, true, true);
  expect(attempts.past).toEqual({});
  attempts.ended(resetByUs, true, false);
  const told = { by: 'us', reason: 'reset', at: '1970-01-01T00:00:00.000Z' };
  expect(attempts.past).toEqual({ lastError: told, sessionEnd: told });
  expect(attempts.refusing).toBe(false);
  attempts.ended(lost, false, false);
  expect(attempts.past).toMatchObject({ lastError: { by: 'tcp' }, sessionEnd: told });
});

test('a peer that told too much is refused until somebody changes that', () => {
  const { clock, attempts } = fresh();
  attempts.refuseFor(Number.POSITIVE_INFINITY);
  clock.advance(1e9);
  expect(attempts.refusing).toBe(true);
  attempts.welcome();
  expect(attempts.refusing).toBe(false);
});
