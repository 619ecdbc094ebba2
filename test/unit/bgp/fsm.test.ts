import { describe, expect, test } from 'vitest';
import { type Action, type Event, type Machine, type State, states, step, table } from '../../../src/bgp/fsm.ts';
import { acceptOpen, type Negotiated, openOf, type SessionConfig } from '../../../src/bgp/negotiate.ts';
import { WireError } from '../../../src/bgp/wire/errors.ts';
import { parseIp } from '../../../src/model/address.ts';

const config: SessionConfig = {
  asn: 64512,
  identifier: parseIp('10.0.0.1'),
  peerAsn: 65001,
  families: [4, 6],
  holdSeconds: 90,
  restart: { restarted: false, restartSeconds: 120, preserved: false },
  initiative: 'dial',
  connectRetrySeconds: 3,
  idleHoldSeconds: 7,
};
const open = openOf({ ...config, asn: 65001, identifier: parseIp('10.0.0.2') });
const negotiated: Negotiated = acceptOpen(open, config);

const events: { readonly [K in Event['on']]: Extract<Event, { on: K }> } = {
  start: { on: 'start' },
  stop: { on: 'stop', reason: 'shutdown' },
  idleHoldExpired: { on: 'idleHoldExpired' },
  connectRetryExpired: { on: 'connectRetryExpired' },
  holdExpired: { on: 'holdExpired' },
  keepaliveExpired: { on: 'keepaliveExpired' },
  sendHoldExpired: { on: 'sendHoldExpired' },
  tcpUp: { on: 'tcpUp' },
  tcpFailed: { on: 'tcpFailed', reason: 'refused' },
  open: { on: 'open', open },
  keepalive: { on: 'keepalive' },
  update: { on: 'update' },
  refresh: { on: 'refresh' },
  notification: { on: 'notification', notification: { code: 6, subcode: 2, data: new Uint8Array(0) } },
  wireError: { on: 'wireError', error: new WireError('update', 1, 'reset', 'update', 'broken') },
  bfdDown: { on: 'bfdDown', reason: 'no packet' },
  collisionLost: { on: 'collisionLost' },
};

/** Actions as short words: timers with their seconds, messages with their type and code. */
function words(actions: readonly Action[]): string[] {
  return actions.flatMap((action): string[] => {
    switch (action.do) {
      case 'arm':
        return [`${action.timer}=${action.seconds}`];
      case 'disarm':
        return [];
      case 'send': {
        const { message } = action;
        if (message.type !== 'notification') return [`send ${message.type}`];
        return [`send ${message.notification.code}/${message.notification.subcode}`];
      }
      case 'ended':
        return [`ended by ${action.ending.by}`];
      default:
        return [action.do];
    }
  });
}

const drop = ['close', 'idleHold=7', 'ended by us'];
const lost = ['close', 'idleHold=3', 'ended by tcp'];
const refuse = (code: string) => [`send ${code}`, ...drop];
const goodbye = (code: string) => [`send ${code}`, 'close', 'ended by us'];
const silent: readonly [State, string[]] = ['Idle', drop];
const stays = (state: State): readonly [State, string[]] => [state, []];
const opened: readonly [State, string[]] = ['OpenSent', ['send open', 'hold=240']];
const byPeer: readonly [State, string[]] = ['Idle', ['close', 'idleHold=7', 'ended by peer']];

/** RFC 4271 §8.2.2 and 6608: every state and event. */
const expected: Record<State, Record<Event['on'], readonly [State, string[]]>> = {
  Idle: {
    start: ['Connect', ['dial', 'connectRetry=5']],
    stop: stays('Idle'),
    idleHoldExpired: ['Connect', ['dial', 'connectRetry=5']],
    connectRetryExpired: stays('Idle'),
    holdExpired: stays('Idle'),
    keepaliveExpired: stays('Idle'),
    sendHoldExpired: stays('Idle'),
    tcpUp: ['Idle', ['close']],
    tcpFailed: stays('Idle'),
    open: stays('Idle'),
    keepalive: stays('Idle'),
    update: stays('Idle'),
    refresh: stays('Idle'),
    notification: stays('Idle'),
    wireError: stays('Idle'),
    bfdDown: stays('Idle'),
    collisionLost: stays('Idle'),
  },
  Connect: {
    start: stays('Connect'),
    stop: ['Idle', ['close', 'ended by us']],
    idleHoldExpired: silent,
    connectRetryExpired: ['Connect', ['close', 'dial', 'connectRetry=5']],
    holdExpired: silent,
    keepaliveExpired: silent,
    sendHoldExpired: silent,
    tcpUp: opened,
    tcpFailed: ['Active', ['connectRetry=3']],
    open: silent,
    keepalive: silent,
    update: silent,
    refresh: silent,
    notification: silent,
    wireError: silent,
    bfdDown: stays('Connect'),
    collisionLost: ['Idle', ['close', 'ended by us']],
  },
  Active: {
    start: stays('Active'),
    stop: ['Idle', ['close', 'ended by us']],
    idleHoldExpired: silent,
    connectRetryExpired: ['Connect', ['dial', 'connectRetry=5']],
    holdExpired: silent,
    keepaliveExpired: silent,
    sendHoldExpired: silent,
    tcpUp: opened,
    tcpFailed: ['Active', ['connectRetry=3']],
    open: silent,
    keepalive: silent,
    update: silent,
    refresh: silent,
    notification: silent,
    wireError: silent,
    bfdDown: stays('Active'),
    collisionLost: ['Idle', ['close', 'ended by us']],
  },
  OpenSent: {
    start: stays('OpenSent'),
    stop: ['Idle', goodbye('6/2')],
    idleHoldExpired: ['Idle', refuse('5/1')],
    connectRetryExpired: ['Idle', refuse('5/1')],
    holdExpired: ['Idle', refuse('4/0')],
    keepaliveExpired: ['Idle', refuse('5/1')],
    sendHoldExpired: ['Idle', drop],
    tcpUp: stays('OpenSent'),
    tcpFailed: ['Idle', lost],
    open: ['OpenConfirm', ['opened', 'send keepalive', 'hold=90', 'keepalive=30']],
    keepalive: ['Idle', refuse('5/1')],
    update: ['Idle', refuse('5/1')],
    refresh: ['Idle', refuse('5/1')],
    notification: byPeer,
    wireError: ['Idle', refuse('3/1')],
    bfdDown: ['Idle', refuse('6/10')],
    collisionLost: ['Idle', goodbye('6/7')],
  },
  OpenConfirm: {
    start: stays('OpenConfirm'),
    stop: ['Idle', goodbye('6/2')],
    idleHoldExpired: ['Idle', refuse('5/2')],
    connectRetryExpired: ['Idle', refuse('5/2')],
    holdExpired: ['Idle', refuse('4/0')],
    keepaliveExpired: ['OpenConfirm', ['send keepalive', 'keepalive=30']],
    sendHoldExpired: ['Idle', drop],
    tcpUp: stays('OpenConfirm'),
    tcpFailed: ['Idle', lost],
    open: ['Idle', refuse('5/2')],
    keepalive: ['Established', ['hold=90', 'up']],
    update: ['Idle', refuse('5/2')],
    refresh: ['Idle', refuse('5/2')],
    notification: byPeer,
    wireError: ['Idle', refuse('3/1')],
    bfdDown: ['Idle', refuse('6/10')],
    collisionLost: ['Idle', goodbye('6/7')],
  },
  Established: {
    start: stays('Established'),
    stop: ['Idle', goodbye('6/2')],
    idleHoldExpired: ['Idle', refuse('5/3')],
    connectRetryExpired: ['Idle', refuse('5/3')],
    holdExpired: ['Idle', refuse('4/0')],
    keepaliveExpired: ['Established', ['send keepalive', 'keepalive=30']],
    sendHoldExpired: ['Idle', drop],
    tcpUp: stays('Established'),
    tcpFailed: ['Idle', lost],
    open: ['Idle', refuse('5/3')],
    keepalive: ['Established', ['hold=90']],
    update: ['Established', ['hold=90']],
    refresh: ['Established', ['hold=90']],
    notification: byPeer,
    wireError: ['Idle', refuse('3/1')],
    bfdDown: ['Idle', refuse('6/10')],
    collisionLost: ['Idle', goodbye('6/7')],
  },
};

function machineIn(state: State): Machine {
  return state === 'OpenConfirm' || state === 'Established' ? { state, negotiated } : { state };
}

describe.each(states)('%s', (state) => {
  test.each(Object.keys(events) as Event['on'][])('%s', (on) => {
    const { machine, actions } = step(machineIn(state), events[on], config);
    expect([machine.state, words(actions)]).toEqual(expected[state][on]);
  });
});

test('the table has a cell for every state and event', () => {
  for (const state of states) expect(Object.keys(table[state]).sort()).toEqual(Object.keys(events).sort());
});

test('a peer that is only waited for is dialled after the retry time, or never', () => {
  const waiting = step({ state: 'Idle' }, events.start, { ...config, initiative: 'wait' });
  expect([waiting.machine.state, words(waiting.actions)]).toEqual(['Active', ['connectRetry=3']]);
  const passive = step({ state: 'Idle' }, events.start, { ...config, initiative: 'never' });
  expect([passive.machine.state, words(passive.actions)]).toEqual(['Active', []]);
});

test('a stop without a reason says nothing to the peer', () => {
  const { machine, actions } = step(machineIn('Established'), { on: 'stop' }, config);
  expect([machine.state, words(actions)]).toEqual(['Idle', ['close', 'ended by us']]);
});

describe('judging an OPEN', () => {
  const refusal = (change: object, ours: Partial<SessionConfig> = {}) => {
    const { actions } = step(
      { state: 'OpenSent' },
      { on: 'open', open: { ...open, ...change } },
      { ...config, ...ours },
    );
    return words(actions)[0];
  };

  test.each([
    ['another AS', { capabilities: [{ capability: 'fourOctetAs', asn: 65002 }] }, 'send 2/2'],
    ['AS 0', { asn: 0, capabilities: [] }, 'send 2/2'],
    ['a hold time of 1', { holdSeconds: 1 }, 'send 2/6'],
    ['a hold time of 2', { holdSeconds: 2 }, 'send 2/6'],
    ['identifier 0.0.0.0', { identifier: '0.0.0.0' }, 'send 2/3'],
  ])('%s is refused', (_, change, notification) => {
    expect(refusal(change)).toBe(notification);
  });

  test('our own identifier is refused inside the AS, and taken from another', () => {
    const inside = { identifier: config.identifier, capabilities: [{ capability: 'fourOctetAs', asn: 64512 }] };
    expect(refusal(inside, { peerAsn: 64512 })).toBe('send 2/3');
    expect(refusal({ identifier: config.identifier })).toBe('opened');
  });

  test('no common family is 2/7 with the capability that is missing', () => {
    const { actions } = step(
      { state: 'OpenSent' },
      { on: 'open', open: { ...open, asn: 65001, capabilities: [] } },
      { ...config, families: [6] },
    );
    expect(actions[0]).toMatchObject({
      message: { notification: { code: 2, subcode: 7, data: Uint8Array.of(1, 4, 0, 2, 0, 1) } },
    });
  });

  test('a peer without capabilities speaks IPv4 with two-octet AS numbers', () => {
    expect(acceptOpen({ ...open, asn: 65001, capabilities: [] }, config)).toEqual({
      peerAsn: 65001,
      identifier: '10.0.0.2',
      external: true,
      holdSeconds: 90,
      keepaliveSeconds: 30,
      families: [4],
      fourOctetAs: false,
      routeRefresh: false,
      enhancedRefresh: false,
      extendedMessages: false,
      extendedNextHop: false,
    });
  });

  test('the smaller hold time counts; zero means no timers', () => {
    expect(acceptOpen({ ...open, holdSeconds: 9 }, config)).toMatchObject({ holdSeconds: 9, keepaliveSeconds: 3 });
    const { actions } = step({ state: 'OpenSent' }, { on: 'open', open: { ...open, holdSeconds: 0 } }, config);
    expect(words(actions)).toEqual(['opened', 'send keepalive']);
  });
});
