import { expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { rehearse } from '../../../src/cli/rehearsal.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { StoreUnavailableError } from '../../../src/datastore/store.ts';
import { until } from '../../support/wait.ts';

/* The stage is the whole agent: a rehearsal that goes through says that pods start and stop on it. */

const longAgo = () => Number.NEGATIVE_INFINITY;

function setUp() {
  const store = createMemoryStore();
  const lines: { level: string; msg: string; rounds?: number; error?: string }[] = [];
  const log = createLog('test', 'debug', { write: (line) => void lines.push(JSON.parse(line)) });
  return { lines, options: { store, log, clock: systemClock, signal: new AbortController().signal, rounds: 3 } };
}

test('pods are started and stopped, none of them in the store of the agent', async () => {
  const { lines, options } = setUp();
  const { transact } = options.store;
  const outcomes: string[] = [];
  const told: typeof transact = async (writes) => {
    const done = await transact.call(options.store, writes);
    outcomes.push(done.outcome);
    return done;
  };
  await rehearse({ ...options, store: Object.assign(options.store, { transact: told }), lastBusy: longAgo });
  expect(outcomes).toEqual(['conflict', 'conflict', 'conflict']);
  expect(lines).toMatchObject([{ level: 'debug', msg: 'rehearsed the start of pods', rounds: 3 }]);
  expect([...options.store.dump()]).toEqual([]);
});

test('nothing is rehearsed while the agent is busy', async () => {
  const { lines, options } = setUp();
  const stop = new AbortController();
  let busy = true;
  let asked = 0;
  const lastBusy = () => {
    asked++;
    return busy ? systemClock.monotonic() : Number.NEGATIVE_INFINITY;
  };
  const clock = { ...systemClock, after: (_milliseconds: number, action: () => void) => systemClock.after(1, action) };
  const rehearsal = rehearse({ ...options, clock, lastBusy, signal: stop.signal });
  await until(() => asked > 20, { within: 5000, what: 'the rehearsal asks whether it may begin' });
  expect(lines).toEqual([]);
  busy = false;
  await rehearsal;
  expect(lines).toMatchObject([{ rounds: 3 }]);
});

test('a failure is told and ends the rehearsal only', async () => {
  const { lines, options } = setUp();
  const get = () => Promise.reject(new StoreUnavailableError('etcd is away'));
  await rehearse({ ...options, store: Object.assign(options.store, { get }), lastBusy: longAgo });
  expect(lines).toMatchObject([{ level: 'warn', error: 'etcd is away' }]);
});

test('it ends with the agent', async () => {
  const { lines, options } = setUp();
  const signal = AbortSignal.abort();
  await rehearse({ ...options, lastBusy: longAgo, signal });
  expect(lines).toMatchObject([{ rounds: 0 }]);
});
