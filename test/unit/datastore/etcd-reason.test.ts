import { expect, test } from 'vitest';
import { connectionFailure } from '../../../src/datastore/etcd-reason.ts';

test.each([
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED 10.0.0.1:2379. Resolution note: ',
    'connect ECONNREFUSED 10.0.0.1:2379',
  ],
  ['14 UNAVAILABLE: No connection established. Last error: . Resolution note: ', 'no connection'],
  ['4 DEADLINE_EXCEEDED: Deadline exceeded after 3.994s,waiting for name resolution', 'its name is not resolved'],
  ['14 UNAVAILABLE: Name resolution failed for target dns:nosuch.invalid:2379', 'its name is not resolved'],
  ['14 UNAVAILABLE: Connection dropped', 'the connection broke'],
  ['14 UNAVAILABLE: etcdserver: leader changed', undefined],
  ['5 NOT_FOUND: etcdserver: requested lease not found', undefined],
])('%s', (text, reason) => {
  expect(connectionFailure(new Error(text))).toBe(reason);
  expect(connectionFailure(new Error('call failed', { cause: new Error(text) }))).toBe(reason);
});
