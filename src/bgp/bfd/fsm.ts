/*
 * The state machine of a BFD session as a pure table. RFC 5880 §6.2, §6.8.6. What a transition leads to beyond the
 * state (timers, packets, BGP) is decided by session.ts and by whoever listens to it.
 */

/** Session states, in the order of their codes on the wire. RFC 5880 §4.1. */
export const states = ['AdminDown', 'Down', 'Init', 'Up'] as const;
export type State = (typeof states)[number];

/** Diagnostic codes by their number: why the session last left Up. RFC 5880 §4.1. */
export const diagnostics = [
  'none',
  'detectionTimeExpired',
  'echoFailed',
  'neighborSignaledDown',
  'forwardingPlaneReset',
  'pathDown',
  'concatenatedPathDown',
  'administrativelyDown',
  'reverseConcatenatedPathDown',
] as const;
export type Diagnostic = (typeof diagnostics)[number];

/** The name of a diagnostic code; codes that are not assigned are shown as numbers. */
export function diagnosticName(code: number): string {
  return diagnostics[code] ?? String(code);
}

/** What can happen: the state that a packet tells of, silence, an administrator's word. */
export type Event = `told${State}` | 'expired' | 'disable' | 'enable';
export const events: readonly Event[] = [
  'toldAdminDown',
  'toldDown',
  'toldInit',
  'toldUp',
  'expired',
  'disable',
  'enable',
];

/** The next state, and the new diagnostic where the event sets one. */
export interface Outcome {
  readonly state: State;
  readonly diagnostic?: Diagnostic;
}

const stay = (state: State): Outcome => ({ state });
const disabled: Outcome = { state: 'AdminDown', diagnostic: 'administrativelyDown' };
const signaled: Outcome = { state: 'Down', diagnostic: 'neighborSignaledDown' };
const expired: Outcome = { state: 'Down', diagnostic: 'detectionTimeExpired' };

/** Every cell. A session in AdminDown discards all packets; one in Down takes no more than the peer's Down or Init. */
export const table: Readonly<Record<State, Readonly<Record<Event, Outcome>>>> = {
  AdminDown: {
    toldAdminDown: stay('AdminDown'),
    toldDown: stay('AdminDown'),
    toldInit: stay('AdminDown'),
    toldUp: stay('AdminDown'),
    expired: stay('AdminDown'),
    disable: stay('AdminDown'),
    enable: { state: 'Down', diagnostic: 'none' },
  },
  Down: {
    toldAdminDown: stay('Down'),
    toldDown: stay('Init'),
    toldInit: { state: 'Up', diagnostic: 'none' },
    toldUp: stay('Down'),
    expired: stay('Down'),
    disable: disabled,
    enable: stay('Down'),
  },
  Init: {
    toldAdminDown: signaled,
    toldDown: stay('Init'),
    toldInit: { state: 'Up', diagnostic: 'none' },
    toldUp: { state: 'Up', diagnostic: 'none' },
    expired,
    disable: disabled,
    enable: stay('Init'),
  },
  Up: {
    toldAdminDown: signaled,
    toldDown: signaled,
    toldInit: stay('Up'),
    toldUp: stay('Up'),
    expired,
    disable: disabled,
    enable: stay('Up'),
  },
};

/** The next state after an event, and what has to be told and timed with it. Pure. RFC 5880 §6.8.6. */
export function step(state: State, event: Event): Outcome {
  return table[state][event];
}

/** A transition, with what the peer last said of itself. */
export interface Change {
  readonly from: State;
  readonly to: State;
  readonly diagnostic: Diagnostic;
  readonly remoteState: State;
  readonly remoteDiagnostic: number;
}

/**
 * Whether the path has failed, so that what depends on the session must go down too. A peer that was switched off by
 * its administrator has told so, and says nothing of the path. RFC 5882 §3.2.
 */
export function pathFailed({ from, to, remoteState, diagnostic }: Change): boolean {
  if (from !== 'Up' || to !== 'Down') return false;
  return !(diagnostic === 'neighborSignaledDown' && remoteState === 'AdminDown');
}
