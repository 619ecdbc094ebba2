import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { campaign, decide, recordOf } from '../../../src/controllers/election.ts';
import { KvLease, type LeaseStore } from '../../../src/datastore/lease.ts';
import { MemoryKv } from '../../../src/datastore/memory.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const log = createLog('test', 'silent');
const times = { leaseSeconds: 15, deadlineSeconds: 10, retrySeconds: 2 };
const at = new Date('2026-03-02T10:11:12Z');
const held = { holder: 'a', durationSeconds: 15, acquiredAt: at, renewedAt: at, transitions: 3 };

test.each([
  ['nobody has it', undefined, 0, 'take'],
  ['it was given back', { record: { ...held, holder: '' }, revision: '1' }, 0, 'take'],
  ['it is mine', { record: { ...held, holder: 'me' }, revision: '1' }, 99_000, 'renew'],
  ['its holder renews', { record: held, revision: '1' }, 14_999, 'wait'],
  ['its holder renews no more', { record: held, revision: '1' }, 15_000, 'take'],
  ['it cannot be read, and may be somebody else’s', { record: undefined, revision: '1' }, 14_999, 'wait'],
  ['it cannot be read, and does not change', { record: undefined, revision: '1' }, 15_000, 'take'],
] as const)('%s', (_what, lease, nowMs, expected) => {
  expect(decide({ lease, sinceMs: 0 }, 'me', nowMs)).toBe(expected);
});

test('a new holder counts as one more, and one that renews keeps when it began', () => {
  const now = new Date('2026-03-02T10:20:00Z');
  expect(recordOf(held, 'b', now, times)).toMatchObject({ holder: 'b', acquiredAt: now, transitions: 4 });
  expect(recordOf(held, 'a', now, times)).toMatchObject({ acquiredAt: at, renewedAt: now, transitions: 3 });
});

/** Lets everything that is due happen, in steps of half a second. */
async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let step = 0; step < seconds * 2; step++) {
    clock.advance(500);
    await settled();
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

interface Stand {
  readonly name: string;
  readonly over: AbortController;
  leads: boolean;
  readonly done: Promise<void>;
}

function stand(name: string, lease: LeaseStore, clock: ManualClock): Stand {
  const over = new AbortController();
  const self: { leads: boolean } = { leads: false };
  const lead = async (signal: AbortSignal) => {
    self.leads = true;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    self.leads = false;
  };
  const done = campaign({ lease, identity: name, clock, log, signal: over.signal, times, lead });
  return Object.assign(self, { name, over, done });
}

test('one leads, and another takes over at once when it stops, or after the lease when it dies', async () => {
  const clock = new ManualClock();
  const kv = new MemoryKv();
  const lease = new KvLease(kv, 'l');
  let dead = false;
  const mortal: LeaseStore = {
    read: () => (dead ? new Promise(() => undefined) : lease.read()),
    write: (record, revision) => (dead ? new Promise(() => undefined) : lease.write(record, revision)),
    close: () => undefined,
  };
  const a = stand('a', mortal, clock);
  await settled();
  const b = stand('b', lease, clock);
  await pass(clock, 30);
  expect([a.leads, b.leads]).toEqual([true, false]);

  b.over.abort();
  await b.done;
  const c = stand('c', lease, clock);
  dead = true;
  await pass(clock, 10.5);
  expect([a.leads, c.leads]).toEqual([false, false]);
  await pass(clock, 10);
  expect([a.leads, c.leads]).toEqual([false, true]);

  const d = stand('d', lease, clock);
  await pass(clock, 3);
  c.over.abort();
  await pass(clock, 3);
  expect([c.leads, d.leads]).toEqual([false, true]);
  d.over.abort();
  await Promise.all([c.done, pass(clock, 1), d.done]);
  expect((await lease.read())?.record).toMatchObject({ holder: '', transitions: expect.any(Number) });
});

test('a leader that throws ends its campaign and gives the lease back', async () => {
  const clock = new ManualClock();
  const lease = new KvLease(new MemoryKv(), 'l');
  const lead = vi.fn(() => Promise.reject(new TypeError('broken')));
  const { signal } = new AbortController();
  await expect(campaign({ lease, identity: 'a', clock, log, signal, times, lead })).rejects.toThrow('broken');
  expect((await lease.read())?.record?.holder).toBe('');
});

test('never do two lead at once, whatever fails in between', async () => {
  const faults = fc.array(fc.record({ who: fc.nat(2), seconds: fc.integer({ min: 1, max: 20 }) }), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(faults, async (cuts) => {
      const clock = new ManualClock();
      const lease = new KvLease(new MemoryKv(), 'l');
      const cut = new Set<number>();
      const refuse = () => Promise.reject(new Error('cut'));
      const stands = [0, 1, 2].map((who) =>
        stand(
          `s${who}`,
          {
            read: () => (cut.has(who) ? refuse() : lease.read()),
            write: (record, revision) => (cut.has(who) ? refuse() : lease.write(record, revision)),
            close: () => undefined,
          },
          clock,
        ),
      );
      const check = async (seconds: number) => {
        for (let step = 0; step < seconds; step++) {
          await pass(clock, 1);
          expect(stands.filter(({ leads }) => leads).length).toBeLessThanOrEqual(1);
        }
      };
      for (const { who, seconds } of cuts) {
        if (cut.has(who)) cut.delete(who);
        else cut.add(who);
        await check(seconds);
      }
      cut.clear();
      await check(20);
      expect(stands.filter(({ leads }) => leads)).toHaveLength(1);
      for (const { over } of stands) over.abort();
      await Promise.all(stands.map(({ done }) => done));
    }),
    { numRuns: 20 },
  );
});
