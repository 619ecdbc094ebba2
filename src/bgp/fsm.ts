import { acceptOpen, type Negotiated, openHoldSeconds, openOf, type SessionConfig } from './negotiate.ts';
import { errorCodes, subcodes, WireError } from './wire/errors.ts';
import type { Message } from './wire/message.ts';
import { cease, describeNotification, type Notification, notificationOf } from './wire/notification.ts';
import type { Open } from './wire/open.ts';

/*
 * The finite state machine of one connection. RFC 4271 §8. It performs nothing: connection.ts runs the actions, timers
 * included. A connection that the peer opened starts in Active with `tcpUp`.
 */

export const states = ['Idle', 'Connect', 'Active', 'OpenSent', 'OpenConfirm', 'Established'] as const;
export type State = (typeof states)[number];
export type TimerName = 'connectRetry' | 'hold' | 'keepalive' | 'idleHold' | 'sendHold';

export type Event =
  | { readonly on: 'start' }
  /** An administrator's stop. Without a reason the connection just goes, so that graceful restart applies. */
  | { readonly on: 'stop'; readonly reason?: keyof typeof subcodes.cease; readonly message?: string }
  | { readonly on: 'idleHoldExpired' }
  | { readonly on: 'connectRetryExpired' }
  | { readonly on: 'holdExpired' }
  | { readonly on: 'keepaliveExpired' }
  /** The peer has read nothing of what waits for it for too long. RFC 9687. */
  | { readonly on: 'sendHoldExpired' }
  | { readonly on: 'tcpUp' }
  | { readonly on: 'tcpFailed'; readonly reason: string }
  | { readonly on: 'open'; readonly open: Open }
  | { readonly on: 'keepalive' }
  | { readonly on: 'update' }
  | { readonly on: 'refresh' }
  | { readonly on: 'notification'; readonly notification: Notification }
  /** What arrived breaks the protocol. */
  | { readonly on: 'wireError'; readonly error: WireError }
  /** The path to the peer is gone, as BFD found out. RFC 5882 §3.2. */
  | { readonly on: 'bfdDown'; readonly reason: string }
  /** The other connection with this peer is kept. RFC 4271 §6.8. */
  | { readonly on: 'collisionLost' };

/** `tcpFailed (closed by the peer)`: an event in a log line. */
export function describeEvent(event: Event): string {
  switch (event.on) {
    case 'tcpFailed':
      return `tcpFailed (${event.reason})`;
    case 'notification':
      return `notification (${describeNotification(event.notification)})`;
    case 'wireError':
      return `wireError (${event.error.message})`;
    case 'stop':
      return event.reason ? `stop (${event.reason})` : 'stop';
    default:
      return event.on;
  }
}

/** Why a connection ended. */
export interface Ending {
  readonly by: 'us' | 'peer' | 'tcp';
  readonly reason: string;
  readonly notification?: Notification;
}

export type Action =
  | { readonly do: 'dial' }
  /** Half-close, drain, close. */
  | { readonly do: 'close' }
  | { readonly do: 'send'; readonly message: Message }
  | { readonly do: 'arm'; readonly timer: TimerName; readonly seconds: number }
  | { readonly do: 'disarm'; readonly timer: TimerName }
  /** The peer's OPEN was accepted: time to look for a collision. */
  | { readonly do: 'opened'; readonly negotiated: Negotiated }
  | { readonly do: 'up'; readonly negotiated: Negotiated }
  | { readonly do: 'ended'; readonly ending: Ending };

/** How long a TCP connection may take to come about. */
export const dialSeconds = 5;

export interface Machine {
  readonly state: State;
  readonly negotiated?: Negotiated;
}

export interface Step {
  readonly machine: Machine;
  readonly actions: readonly Action[];
}

type Handler<E extends Event['on']> = (
  event: Extract<Event, { on: E }>,
  config: SessionConfig,
  machine: Machine,
) => Step;
type Row = { readonly [E in Event['on']]: Handler<E> };

const stay = (_event: Event, _config: SessionConfig, machine: Machine): Step => ({ machine, actions: [] });

/** Events that say nothing of the connection leave Idle as it is. */
const idle: Row = {
  start: (_, config) => begin(config),
  stop: () => ({ machine: { state: 'Idle' }, actions: [{ do: 'disarm', timer: 'idleHold' }] }),
  idleHoldExpired: (_, config) => begin(config),
  connectRetryExpired: stay,
  holdExpired: stay,
  keepaliveExpired: stay,
  sendHoldExpired: stay,
  tcpUp: (_event, _config, machine) => ({ machine, actions: [{ do: 'close' }] }),
  tcpFailed: stay,
  open: stay,
  keepalive: stay,
  update: stay,
  refresh: stay,
  notification: stay,
  wireError: stay,
  bfdDown: stay,
  collisionLost: stay,
};

/** Nothing has been said yet: whatever does not belong here ends the attempt without a message. */
const silent = (reason: string) => (_: Event, config: SessionConfig) => drop(config, { by: 'us', reason });
const beforeOpen: Omit<Row, 'start' | 'connectRetryExpired' | 'tcpUp' | 'tcpFailed'> = {
  stop: (event) => stopped(event.reason, false),
  idleHoldExpired: silent('idle hold timer outside Idle'),
  holdExpired: silent('hold timer before OPEN'),
  keepaliveExpired: silent('keepalive timer before OPEN'),
  sendHoldExpired: silent('send hold timer before OPEN'),
  open: silent('OPEN before the connection'),
  keepalive: silent('KEEPALIVE before the connection'),
  update: silent('UPDATE before the connection'),
  refresh: silent('ROUTE-REFRESH before the connection'),
  notification: silent('NOTIFICATION before the connection'),
  wireError: silent('message before the connection'),
  // The attempt goes on: whether the path is back is what it finds out.
  bfdDown: stay,
  collisionLost: () => stopped(undefined, false),
};

const sendHoldOver: Notification = { code: errorCodes.sendHold, subcode: 0, data: new Uint8Array(0) };

/** An OPEN has been sent: every error is told to the peer. */
const afterOpen = (subcode: number): Omit<Row, 'open' | 'keepalive' | 'update' | 'refresh' | 'keepaliveExpired'> => ({
  start: stay,
  stop: (event) => stopped(event.reason, true, event.message),
  idleHoldExpired: unexpected('idle hold timer', subcode),
  connectRetryExpired: unexpected('connect retry timer', subcode),
  holdExpired: (_, config) =>
    refuse(config, { code: errorCodes.hold, subcode: 0, data: new Uint8Array(0) }, 'hold timer expired'),
  // A NOTIFICATION would wait behind what the peer does not read.
  sendHoldExpired: (_, config) =>
    drop(config, { by: 'us', reason: describeNotification(sendHoldOver), notification: sendHoldOver }),
  tcpUp: stay,
  tcpFailed: (event, config) => drop(config, { by: 'tcp', reason: event.reason }),
  notification: (event, config) => {
    const { notification } = event;
    return drop(config, { by: 'peer', reason: describeNotification(notification), notification });
  },
  wireError: (event, config) => refuse(config, notificationOf(event.error), event.error.message),
  bfdDown: (event, config) => refuse(config, cease('bfdDown'), event.reason),
  collisionLost: () => stopped('collision', true),
});

/** Every row says what each event does. RFC 4271 §8.2.2. */
export const table: Readonly<Record<State, Row>> = {
  Idle: idle,
  Connect: {
    ...beforeOpen,
    start: stay,
    connectRetryExpired: () => ({
      machine: { state: 'Connect' },
      actions: [{ do: 'close' }, { do: 'dial' }, arm('connectRetry', dialSeconds)],
    }),
    tcpUp: sendOpen,
    // RFC 4271 goes to Idle; Active keeps listening while the retry timer runs, which is the same to the peer.
    tcpFailed: (_, config) => ({ machine: { state: 'Active' }, actions: retry(config) }),
  },
  Active: {
    ...beforeOpen,
    start: stay,
    connectRetryExpired: dial,
    tcpUp: sendOpen,
    tcpFailed: (_, config) => ({ machine: { state: 'Active' }, actions: retry(config) }),
  },
  OpenSent: {
    ...afterOpen(subcodes.fsm.openSent),
    open: (event, config) => accept(event.open, config),
    keepalive: unexpected('KEEPALIVE', subcodes.fsm.openSent),
    update: unexpected('UPDATE', subcodes.fsm.openSent),
    refresh: unexpected('ROUTE-REFRESH', subcodes.fsm.openSent),
    keepaliveExpired: unexpected('keepalive timer', subcodes.fsm.openSent),
  },
  OpenConfirm: {
    ...afterOpen(subcodes.fsm.openConfirm),
    open: unexpected('OPEN', subcodes.fsm.openConfirm),
    keepalive: establish,
    update: unexpected('UPDATE', subcodes.fsm.openConfirm),
    refresh: unexpected('ROUTE-REFRESH', subcodes.fsm.openConfirm),
    keepaliveExpired: sendKeepalive,
  },
  Established: {
    ...afterOpen(subcodes.fsm.established),
    open: unexpected('OPEN', subcodes.fsm.established),
    keepalive: refreshHold,
    update: refreshHold,
    refresh: refreshHold,
    keepaliveExpired: sendKeepalive,
  },
};

/** The one entrance: the machine after `event`, and what is to be done. */
export function step(machine: Machine, event: Event, config: SessionConfig): Step {
  const handler = table[machine.state][event.on] as (event: Event, config: SessionConfig, machine: Machine) => Step;
  return handler(event, config, machine);
}

function arm(timer: TimerName, seconds: number): Action {
  return { do: 'arm', timer, seconds };
}

function begin(config: SessionConfig): Step {
  if (config.initiative === 'dial') return dial();
  return { machine: { state: 'Active' }, actions: [{ do: 'disarm', timer: 'idleHold' }, ...retry(config)] };
}

function dial(): Step {
  return {
    machine: { state: 'Connect' },
    actions: [{ do: 'disarm', timer: 'idleHold' }, { do: 'dial' }, arm('connectRetry', dialSeconds)],
  };
}

/** Active waits for the peer; unless we never dial, the retry timer ends the wait. */
function retry(config: SessionConfig): Action[] {
  return config.initiative === 'never' ? [] : [arm('connectRetry', config.connectRetrySeconds)];
}

function sendOpen(_: Event, config: SessionConfig): Step {
  return {
    machine: { state: 'OpenSent' },
    actions: [
      { do: 'disarm', timer: 'connectRetry' },
      { do: 'send', message: { type: 'open', open: openOf(config) } },
      arm('hold', openHoldSeconds),
    ],
  };
}

function accept(open: Open, config: SessionConfig): Step {
  let negotiated: Negotiated;
  try {
    negotiated = acceptOpen(open, config);
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    return refuse(config, notificationOf(thrown), thrown.message);
  }
  return {
    machine: { state: 'OpenConfirm', negotiated },
    actions: [
      { do: 'opened', negotiated },
      { do: 'send', message: { type: 'keepalive' } },
      ...holdActions(negotiated),
      ...keepaliveActions(negotiated),
    ],
  };
}

function establish(_event: Event, _config: SessionConfig, machine: Machine): Step {
  const { negotiated } = machine;
  if (!negotiated) throw new Error('OpenConfirm without a negotiated session');
  return {
    machine: { state: 'Established', negotiated },
    actions: [...holdActions(negotiated), { do: 'up', negotiated }],
  };
}

function refreshHold(_event: Event, _config: SessionConfig, machine: Machine): Step {
  return { machine, actions: machine.negotiated ? holdActions(machine.negotiated) : [] };
}

function sendKeepalive(_event: Event, _config: SessionConfig, machine: Machine): Step {
  const again = machine.negotiated ? keepaliveActions(machine.negotiated) : [];
  return { machine, actions: [{ do: 'send', message: { type: 'keepalive' } }, ...again] };
}

/** A hold time of zero means no hold timer at all. */
function holdActions({ holdSeconds }: Negotiated): Action[] {
  return [holdSeconds > 0 ? arm('hold', holdSeconds) : { do: 'disarm', timer: 'hold' }];
}

function keepaliveActions({ keepaliveSeconds }: Negotiated): Action[] {
  return keepaliveSeconds > 0 ? [arm('keepalive', keepaliveSeconds)] : [];
}

function unexpected(what: string, subcode: number) {
  const notification: Notification = { code: errorCodes.fsm, subcode, data: new Uint8Array(0) };
  return (_: Event, config: SessionConfig) => refuse(config, notification, `unexpected ${what}`);
}

function refuse(config: SessionConfig, notification: Notification, reason: string): Step {
  const { machine, actions } = drop(config, { by: 'us', reason, notification });
  return { machine, actions: [{ do: 'send', message: { type: 'notification', notification } }, ...actions] };
}

/** A lost TCP connection is no offence: the peer may be restarting, and is waited for no longer than for a dial. */
function drop(config: SessionConfig, ending: Ending): Step {
  const rest = ending.by === 'tcp' ? config.connectRetrySeconds : config.idleHoldSeconds;
  return {
    machine: { state: 'Idle' },
    actions: [...disarmed, { do: 'close' }, arm('idleHold', rest), { do: 'ended', ending }],
  };
}

/** Down and staying down until `start`. */
function stopped(reason: keyof typeof subcodes.cease | undefined, opened: boolean, message?: string): Step {
  const notification = opened && reason ? cease(reason, message) : undefined;
  const ending: Ending = {
    by: 'us',
    reason: notification ? describeNotification(notification) : 'closed without NOTIFICATION',
    ...(notification ? { notification } : {}),
  };
  return {
    machine: { state: 'Idle' },
    actions: [
      ...disarmed,
      ...(notification ? [{ do: 'send', message: { type: 'notification', notification } } as const] : []),
      { do: 'close' },
      { do: 'ended', ending },
    ],
  };
}

const disarmed: readonly Action[] = (['connectRetry', 'hold', 'keepalive', 'idleHold', 'sendHold'] as const).map(
  (timer) => ({
    do: 'disarm',
    timer,
  }),
);
