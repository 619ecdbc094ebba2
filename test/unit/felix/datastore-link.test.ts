import { expect, test } from 'vitest';
import { DatastoreLink } from '../../../src/felix/datastore-link.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('since when the datastore is away, whatever further reasons come', () => {
  const clock = new ManualClock();
  const link = new DatastoreLink(clock);
  expect([link.status, link.staleSeconds]).toEqual([{ connected: false, reason: 'not asked yet' }, 0]);
  link.up();
  clock.advance(5000);
  link.down('no route');
  clock.advance(2000);
  link.down('refused');
  clock.advance(1500);
  const since = '1970-01-01T00:00:05.000Z';
  expect([link.status, link.staleSeconds]).toEqual([{ connected: false, reason: 'refused', since }, 3.5]);
  link.up();
  expect([link.status, link.staleSeconds]).toEqual([{ connected: true }, 0]);
  link.down();
  expect(link.status).toEqual({ connected: false, since: '1970-01-01T00:00:08.500Z' });
});
