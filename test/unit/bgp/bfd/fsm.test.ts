import { describe, expect, test } from 'vitest';
import { type Change, type Event, events, pathFailed, type State, states, step } from '../../../../src/bgp/bfd/fsm.ts';

/** RFC 5880 §6.2 and §6.8.6: every state and event, with the diagnostic where one is set. */
const expected: Record<State, Record<Event, readonly [State, string?]>> = {
  AdminDown: {
    toldAdminDown: ['AdminDown'],
    toldDown: ['AdminDown'],
    toldInit: ['AdminDown'],
    toldUp: ['AdminDown'],
    expired: ['AdminDown'],
    disable: ['AdminDown'],
    enable: ['Down', 'none'],
  },
  Down: {
    toldAdminDown: ['Down'],
    toldDown: ['Init'],
    toldInit: ['Up', 'none'],
    toldUp: ['Down'],
    expired: ['Down'],
    disable: ['AdminDown', 'administrativelyDown'],
    enable: ['Down'],
  },
  Init: {
    toldAdminDown: ['Down', 'neighborSignaledDown'],
    toldDown: ['Init'],
    toldInit: ['Up', 'none'],
    toldUp: ['Up', 'none'],
    expired: ['Down', 'detectionTimeExpired'],
    disable: ['AdminDown', 'administrativelyDown'],
    enable: ['Init'],
  },
  Up: {
    toldAdminDown: ['Down', 'neighborSignaledDown'],
    toldDown: ['Down', 'neighborSignaledDown'],
    toldInit: ['Up'],
    toldUp: ['Up'],
    expired: ['Down', 'detectionTimeExpired'],
    disable: ['AdminDown', 'administrativelyDown'],
    enable: ['Up'],
  },
};

describe.each(states)('%s', (state) => {
  test.each(events)('%s', (event) => {
    const outcome = step(state, event);
    const [next, diagnostic] = expected[state][event];
    expect(outcome).toEqual({ state: next, ...(diagnostic ? { diagnostic } : {}) });
  });
});

describe('the path has failed', () => {
  const base: Change = {
    from: 'Up',
    to: 'Down',
    diagnostic: 'detectionTimeExpired',
    remoteState: 'Up',
    remoteDiagnostic: 0,
  };
  test.each<[boolean, string, Partial<Change>]>([
    [true, 'when nothing was heard in time', {}],
    [true, 'when the neighbour hears nothing of us', { diagnostic: 'neighborSignaledDown', remoteState: 'Down' }],
    [false, 'not when it was switched off there', { diagnostic: 'neighborSignaledDown', remoteState: 'AdminDown' }],
    [true, 'when one that had been switched off once falls silent', { remoteState: 'AdminDown' }],
    [false, 'not when it was never Up', { from: 'Init' }],
    [false, 'not when it was switched off here', { to: 'AdminDown', diagnostic: 'administrativelyDown' }],
  ])('%s: %s', (failed, _, change) => {
    expect(pathFailed({ ...base, ...change })).toBe(failed);
  });
});
