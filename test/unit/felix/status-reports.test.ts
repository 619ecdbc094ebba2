import { expect, test } from 'vitest';
import { StatusReports } from '../../../src/felix/status-reports.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';
import { silent } from './support.ts';

const within = 5_000;

function reporting(reportingSeconds: number, failures = 0) {
  const clock = new ManualClock();
  const seen: { report: string; value: object; ttl: number | undefined }[] = [];
  let left = failures;
  const report = async (_node: string, name: string, value: object, ttl?: number) => {
    if (left-- > 0) throw new Error('down');
    seen.push({ report: name, value, ttl });
  };
  const reports = new StatusReports(
    { store: { report }, node: 'n1', clock, log: silent },
    { reportingSeconds, reportingTtlSeconds: 90 },
  );
  const stop = new AbortController();
  return { clock, seen, reports, stop, running: reports.run(stop.signal) };
}

test('a status with a TTL and one without, from the first pass on, in the interval', async () => {
  const { clock, seen, reports, stop, running } = reporting(30);
  clock.advance(1000);
  expect(seen).toEqual([]);
  reports.programmed();
  await until(() => seen.length === 2, { within, what: 'the first report' });
  expect(seen.map(({ report, ttl }) => [report, ttl])).toEqual([
    ['status', 90],
    ['last_reported_status', undefined],
  ]);
  expect(seen[0]?.value).toMatchObject({ first_update: true, uptime: 1, time: expect.stringMatching(/T.*\dZ$/) });
  reports.programmed();
  await until(() => clock.armed > 0, { within, what: 'the pause' });
  clock.advance(30_000);
  await until(() => seen.length === 4, { within, what: 'the second report' });
  expect(seen[2]?.value).toMatchObject({ first_update: false, uptime: 31 });
  stop.abort();
  await running;
});

test('none while the interval is 0; failed ones are made up for by the next', async () => {
  const { clock, seen, reports, stop, running } = reporting(0, 2);
  reports.programmed();
  clock.advance(100_000);
  expect([seen, clock.armed]).toEqual([[], 0]);
  reports.follow({ reportingSeconds: 10, reportingTtlSeconds: 0 });
  const another = () => {
    if (clock.armed > 0) clock.advance(10_000);
    return seen.length > 0;
  };
  await until(another, { within, what: 'a report' });
  expect(seen[0]).toMatchObject({ report: 'status', ttl: undefined, value: { first_update: true } });
  stop.abort();
  await running;
});

test('nothing where the datastore has no place for it', async () => {
  const options = { store: {}, node: 'n1', clock: new ManualClock(), log: silent };
  const reports = new StatusReports(options, { reportingSeconds: 30, reportingTtlSeconds: 90 });
  await reports.run(new AbortController().signal);
});
