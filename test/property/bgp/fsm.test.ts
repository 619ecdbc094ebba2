import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Action, type Event, type Machine, states, step, type TimerName } from '../../../src/bgp/fsm.ts';
import { acceptOpen, openOf, type SessionConfig } from '../../../src/bgp/negotiate.ts';
import { WireError } from '../../../src/bgp/wire/errors.ts';
import type { Open } from '../../../src/bgp/wire/open.ts';
import { parseIp } from '../../../src/model/address.ts';

const ours: SessionConfig = {
  asn: 64512,
  identifier: parseIp('10.0.0.1'),
  peerAsn: 65001,
  families: [4],
  holdSeconds: 90,
  restart: { restarted: false, restartSeconds: 120, preserved: false },
  initiative: 'dial',
  connectRetrySeconds: 3,
  idleHoldSeconds: 7,
};
const config = fc
  .record({
    initiative: fc.constantFrom('dial', 'wait', 'never') as fc.Arbitrary<SessionConfig['initiative']>,
    holdSeconds: fc.constantFrom(0, 3, 90),
  })
  .map((some): SessionConfig => ({ ...ours, ...some }));

const open = fc
  .record({ asn: fc.constantFrom(65001, 65002), holdSeconds: fc.constantFrom(0, 1, 3, 90) })
  .map(({ asn, holdSeconds }): Open => openOf({ ...ours, asn, holdSeconds, identifier: parseIp('10.0.0.2') }));

const plain = [
  'start',
  'idleHoldExpired',
  'connectRetryExpired',
  'holdExpired',
  'keepaliveExpired',
  'sendHoldExpired',
  'tcpUp',
  'keepalive',
  'update',
  'refresh',
  'collisionLost',
] as const;
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...plain).map((on): Event => ({ on })) },
  fc
    .constantFrom('shutdown', 'reset', undefined)
    .map((reason): Event => ({ on: 'stop', ...(reason ? { reason } : {}) })),
  fc.constant<Event>({ on: 'tcpFailed', reason: 'refused' }),
  { weight: 3, arbitrary: open.map((told): Event => ({ on: 'open', open: told })) },
  fc.constant<Event>({ on: 'notification', notification: { code: 6, subcode: 2, data: new Uint8Array(0) } }),
  fc.constant<Event>({ on: 'wireError', error: new WireError('update', 1, 'reset', 'update', 'broken') }),
  fc.constant<Event>({ on: 'bfdDown', reason: 'no packet' }),
);
/** Mostly what brings a session up, so that every state is reached. */
const script = fc.array(
  fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom<Event>({ on: 'start' }, { on: 'tcpUp' }, { on: 'keepalive' }) },
    { weight: 1, arbitrary: event },
  ),
  { maxLength: 60 },
);

test('whatever happens in whatever order, the connection and its timers fit the state', () => {
  const reached = new Set<string>();
  fc.assert(
    fc.property(config, script, (settings, events) => {
      let machine: Machine = { state: 'Idle' };
      const timers = new Set<TimerName>();
      for (const one of events) {
        const before = machine;
        const { machine: after, actions } = step(before, one, settings);
        for (const action of actions) followed(action, timers);
        reached.add(after.state);
        expect(states).toContain(after.state);
        checkEnds(before, after, actions);
        checkTimers(after, timers);
        machine = after;
      }
    }),
    { numRuns: 2000 },
  );
  expect([...reached].sort()).toEqual([...states].sort());
});

function followed(action: Action, timers: Set<TimerName>): void {
  if (action.do === 'arm') timers.add(action.timer);
  if (action.do === 'disarm') timers.delete(action.timer);
}

/** A session comes up and ends once, and an end says who ended it and why, after closing. */
function checkEnds(before: Machine, after: Machine, actions: readonly Action[]): void {
  const done = actions.map((action) => action.do);
  expect(done.includes('up')).toBe(before.state === 'OpenConfirm' && after.state === 'Established');
  const ends = before.state !== 'Idle' && after.state === 'Idle';
  expect(done.filter((what) => what === 'ended')).toHaveLength(ends ? 1 : 0);
  if (ends) expect(done.indexOf('close')).toBeLessThan(done.indexOf('ended'));
  for (const action of actions) if (action.do === 'ended') expect(action.ending.reason).not.toBe('');
  const talks = before.state === 'OpenSent' || before.state === 'OpenConfirm' || before.state === 'Established';
  const sent = actions.flatMap((action) => (action.do === 'send' ? [action.message.type] : []));
  if (!talks) expect(sent.every((type) => type === 'open')).toBe(true);
  if (sent.includes('notification')) expect(after.state).toBe('Idle');
  expect(after.negotiated !== undefined).toBe(after.state === 'OpenConfirm' || after.state === 'Established');
}

/** A hold time of zero knows neither hold timer nor keepalives. */
function checkTimers({ state, negotiated }: Machine, timers: ReadonlySet<TimerName>): void {
  if (state === 'Idle') expect([...timers].filter((timer) => timer !== 'idleHold')).toEqual([]);
  else expect(timers).not.toContain('idleHold');
  if (state === 'Connect') expect(timers).toContain('connectRetry');
  if (state === 'OpenSent') expect(timers).toContain('hold');
  if (negotiated) {
    expect(timers.has('hold')).toBe(negotiated.holdSeconds > 0);
    expect(timers.has('keepalive')).toBe(negotiated.holdSeconds > 0);
  }
}

test('an OPEN that is accepted leaves only what both sides offer', () => {
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), (us, peer) => {
      const theirs = openOf({ ...ours, asn: 65001, identifier: parseIp('10.0.0.2'), extendedMessages: peer });
      expect(acceptOpen(theirs, { ...ours, extendedMessages: us }).extendedMessages).toBe(us && peer);
    }),
  );
});
