import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { type Family, type Ip, parseIp } from '../model/address.ts';
import { type Action, type Ending, type Event, type Machine, type State, step, type TimerName } from './fsm.ts';
import { defaultLimits } from './limits.ts';
import { type Negotiated, type SessionConfig, sendHoldSeconds } from './negotiate.ts';
import { Outgoing } from './outgoing.ts';
import { MessageTally } from './tally.ts';
import { Timers } from './timers.ts';
import { takeFrom } from './transport.ts';
import { WireError } from './wire/errors.ts';
import { type Frame, maxExtendedLength, maxMessageLength, readFrame, writeFrame } from './wire/framing.ts';
import { type Message, type RefreshSubtype, readRefresh, writeMessage } from './wire/message.ts';
import { hardened, readNotification } from './wire/notification.ts';
import { readOpen } from './wire/open.ts';
import { type KnownAttributes, readUpdate, type Update } from './wire/update.ts';

/** What a connection tells the peer that owns it. */
export interface ConnectionEvents {
  moved(connection: Connection, from: State, to: State, why: Event): void;
  opened(connection: Connection, negotiated: Negotiated): void;
  up(connection: Connection, negotiated: Negotiated): void;
  ended(connection: Connection, ending: Ending, negotiated: Negotiated | undefined, established: boolean): void;
  update(connection: Connection, update: Update): void;
  refresh(connection: Connection, family: Family, subtype: RefreshSubtype): void;
  /** What was queued has gone out, after `writable` said that it was too much. */
  drained(connection: Connection): void;
  /** All that came at once has been told of. */
  taken(connection: Connection): void;
}

export interface ConnectionDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly config: () => SessionConfig;
  readonly dial: () => Socket;
  readonly events: ConnectionEvents;
  /** Counts the messages, over all connections of a peer. */
  readonly tally?: MessageTally;
  /** Attributes that any connection has read before. */
  readonly known?: KnownAttributes;
  /** Runs an action when no more is to be sent; absent: after what runs now. */
  readonly soon?: (action: () => void) => void;
  /** Octets queued above which no more UPDATEs are handed over. Default: `defaultLimits`. */
  readonly queuedOctets?: number;
}

/** How long a half-closed connection may go on sending before it is cut. */
const drainMilliseconds = 2000;
/** Octets that came at once after which the event loop goes round before more is read: about a socket's buffer. */
const chunkWorthATurn = 32_768;
const nothing = new Uint8Array(0);

/** Runs the state machine of one TCP connection: its actions become writes, timers and events to the peer. */
export class Connection {
  #machine: Machine;
  #socket: Socket | undefined;
  #last: Socket | undefined;
  #sentOpen: Uint8Array | undefined;
  #receivedOpen: Uint8Array | undefined;
  #outgoing: Outgoing | undefined;
  /** Somebody waits for `drained`. */
  #full = false;
  /** The beginning of a message whose end has not come. */
  #rest: Uint8Array = nothing;
  /** When the last UPDATE came: the hold timer looks at it before it judges. Milliseconds. */
  #heard = Number.NEGATIVE_INFINITY;
  #holdMilliseconds = 0;
  #families: ReadonlySet<Family> = new Set();
  readonly #timers: Timers<TimerName>;
  readonly #tally: MessageTally;

  constructor(
    readonly initiator: 'us' | 'peer',
    private readonly deps: ConnectionDeps,
  ) {
    this.#machine = { state: initiator === 'us' ? 'Idle' : 'Active' };
    this.#tally = deps.tally ?? new MessageTally();
    this.#timers = new Timers(deps.clock, (name) => this.#expired(name));
  }

  get state(): State {
    return this.#machine.state;
  }

  get negotiated(): Negotiated | undefined {
    return this.#machine.negotiated;
  }

  /** The OPENs of both sides, whole, and the ports: for those who watch the session. */
  get opening(): { readonly sent: Uint8Array; readonly received: Uint8Array; readonly remotePort: number } {
    const [sent, received] = [this.#sentOpen, this.#receivedOpen];
    if (!sent || !received) throw new Error('no OPEN has been exchanged');
    return { sent, received, remotePort: this.#last?.remotePort ?? 0 };
  }

  /** Ours, without the zone of a link-local one. */
  get localAddress(): Ip | undefined {
    const text = this.#socket?.localAddress?.replace(/^::ffff:|%.*$/g, '');
    return text === undefined ? undefined : parseIp(text);
  }

  get local(): { readonly address: string | undefined; readonly port: number | undefined } {
    return { address: this.#socket?.localAddress, port: this.#socket?.localPort };
  }

  /** Takes over a connection that the peer opened. */
  accept(socket: Socket): void {
    this.#attach(socket);
    this.event({ on: 'tcpUp' });
  }

  /** Stays in Idle for so long, then starts. */
  startAfter(seconds: number): void {
    this.#timers.arm('idleHold', seconds * 1000);
  }

  event(event: Event): void {
    const before = this.#machine;
    const { machine, actions } = step(before, event, this.deps.config());
    this.#machine = machine;
    if (machine.state !== before.state) this.deps.events.moved(this, before.state, machine.state, event);
    for (const action of actions) this.#run(action, before);
  }

  /** Hands over whole messages; those of one turn leave in one write. */
  send(messages: readonly Uint8Array[]): void {
    if (!this.#outgoing) return;
    for (const message of messages) this.#tally.sent(message);
    this.#outgoing.send(messages);
  }

  /** The kernel has taken what was handed over up to some point: the peer reads. Or it takes no more. */
  #progressed(socket: Socket): void {
    if (this.#socket !== socket) return;
    if (this.unsent === 0) this.#timers.disarm('sendHold');
    else this.#armSendHold();
    if (!this.#full || !this.writable()) return;
    this.#full = false;
    this.deps.events.drained(this);
  }

  #armSendHold(): void {
    this.#timers.arm('sendHold', sendHoldSeconds(this.deps.config()) * 1000);
  }

  /** Octets that wait for the peer to read. */
  get unsent(): number {
    return this.#outgoing?.unsent ?? 0;
  }

  /** When it is not, `drained` tells of the time when it is again. */
  writable(): boolean {
    const writable = this.unsent < (this.deps.queuedOctets ?? defaultLimits.queuedOctets);
    if (!writable) this.#full = true;
    return writable;
  }

  /** No timer of an ended connection fires any more. */
  dispose(): void {
    this.#timers.disarmAll();
  }

  /** Resolves once the socket last used is gone. */
  closed(): Promise<void> {
    const socket = this.#last;
    if (!socket || socket.closed) return Promise.resolve();
    return new Promise((resolve) => socket.once('close', () => resolve()));
  }

  #run(action: Action, before: Machine): void {
    const { events } = this.deps;
    switch (action.do) {
      case 'dial':
        this.#attach(this.deps.dial());
        break;
      case 'close':
        this.#close();
        break;
      case 'send':
        this.#sendMessage(action.message, before);
        break;
      case 'arm':
        if (action.timer === 'hold') this.#holdMilliseconds = action.seconds * 1000;
        this.#timers.arm(action.timer, this.#jittered(action.timer, action.seconds) * 1000);
        break;
      case 'disarm':
        this.#timers.disarm(action.timer);
        break;
      case 'opened':
        events.opened(this, action.negotiated);
        break;
      case 'up':
        this.#families = new Set(action.negotiated.families);
        events.up(this, action.negotiated);
        break;
      case 'ended':
        events.ended(this, action.ending, before.negotiated, before.state === 'Established');
        break;
    }
  }

  /** RFC 4271 §10: 0.75 to 1 times the value, for the timers that many speakers would otherwise run in step. */
  #jittered(timer: TimerName, seconds: number): number {
    return timer === 'hold' ? seconds : seconds * (0.75 + 0.25 * this.deps.random());
  }

  #sendMessage(message: Message, { negotiated }: Machine): void {
    const final = message.type === 'notification' && negotiated?.restart?.notification === true;
    const octets = writeMessage(final ? { ...message, notification: hardened(message.notification) } : message);
    if (message.type === 'open') this.#sentOpen = octets;
    this.send([octets]);
  }

  #expired(name: TimerName): void {
    if (name !== 'hold' && name !== 'sendHold') {
      this.event({ on: `${name}Expired` });
      return;
    }
    // What the socket has done by now counts: the event loop sees to it before this runs.
    const socket = this.#socket;
    setImmediate(() => {
      if (this.#timers.left(name) !== undefined || this.#socket !== socket || this.state === 'Idle') return;
      const left = name === 'hold' ? this.#heard + this.#holdMilliseconds - this.deps.clock.monotonic() : 0;
      if (left > 0) {
        this.#timers.arm(name, left);
        return;
      }
      if (name === 'hold' || this.unsent > 0) this.event({ on: `${name}Expired` });
    });
  }

  #attach(socket: Socket): void {
    this.#detach();
    this.#socket = socket;
    this.#last = socket;
    this.#outgoing = new Outgoing(socket, () => this.#progressed(socket), this.deps.soon);
    this.#full = false;
    this.#rest = nothing;
    this.#heard = Number.NEGATIVE_INFINITY;
    socket.setNoDelay(true);
    const current = (react: () => void) => () => {
      if (this.#socket === socket) react();
    };
    socket.on(
      'connect',
      current(() => this.event({ on: 'tcpUp' })),
    );
    takeFrom(socket, (buffer, length) => {
      if (this.#socket !== socket) return;
      this.#received(buffer, length);
      this.deps.events.taken(this);
      // libuv hands over up to 32 chunks at once; other sessions' timers and the tables shall not wait for all of them.
      if (this.#socket !== socket || length < chunkWorthATurn) return;
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.on(
      'end',
      current(() => this.#lost('closed by the peer')),
    );
    socket.on('error', (error) => {
      if (this.#socket === socket) this.#lost(error.message);
    });
    socket.on(
      'close',
      current(() => this.#lost('closed')),
    );
  }

  #lost(reason: string): void {
    this.#detach();
    this.event({ on: 'tcpFailed', reason });
  }

  /** Whatever the socket still reports is no longer ours; a socket that lingers is cut. */
  #detach(): void {
    this.#timers.disarm('sendHold');
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#outgoing = undefined;
  }

  /** Half-close, so that the last message arrives, then drain what still comes in. RFC 4271 §6 wants it delivered. */
  #close(): void {
    const [socket, outgoing] = [this.#socket, this.#outgoing];
    this.#socket = undefined;
    this.#outgoing = undefined;
    this.#timers.disarm('sendHold');
    if (!socket || socket.destroyed) return;
    if (socket.connecting) {
      socket.destroy();
      return;
    }
    outgoing?.flush();
    socket.resume();
    socket.end();
    const cancel = this.deps.clock.after(drainMilliseconds, () => socket.destroy());
    socket.once('close', cancel);
  }

  /** @param buffer the caller's again afterwards: nothing may keep a part of it */
  #received(buffer: Uint8Array, length: number): void {
    const rest = this.#rest;
    const stream = rest.length === 0 ? buffer : joined(rest, buffer, length);
    const end = rest.length + length;
    const socket = this.#socket;
    let at = 0;
    try {
      for (;;) {
        const most = this.#machine.negotiated?.extendedMessages ? maxExtendedLength : maxMessageLength;
        const frame = readFrame(stream, at, most, end);
        if (!frame) break;
        at += frame.length;
        this.#take(frame);
        if (this.#socket !== socket) return;
      }
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      this.event({ on: 'wireError', error: thrown });
      return;
    }
    this.#rest = at === end ? nothing : stream.slice(at, end);
  }

  /** @throws WireError */
  #take(frame: Frame): void {
    this.#tally.received(frame.type);
    switch (frame.type) {
      case 'open':
        this.#receivedOpen = writeFrame('open', (w) => w.bytes(frame.body));
        this.event({ on: 'open', open: readOpen(frame.body.slice()) });
        break;
      case 'keepalive':
        this.event({ on: 'keepalive' });
        break;
      case 'notification':
        this.event({ on: 'notification', notification: readNotification(frame.body.slice()) });
        break;
      case 'update':
        this.#takeUpdate(frame.body);
        break;
      case 'refresh':
        this.#takeRefresh(frame.body);
        break;
    }
  }

  #takeUpdate(body: Uint8Array): void {
    const { negotiated } = this.#machine;
    if (this.state !== 'Established' || !negotiated) {
      this.event({ on: 'update' });
      return;
    }
    const update = readUpdate(body, negotiated, this.#families, this.deps.known);
    // The event would arm the hold timer again, for each message: the timer looks for itself.
    this.#heard = this.deps.clock.monotonic();
    this.deps.events.update(this, update);
  }

  #takeRefresh(body: Uint8Array): void {
    if (this.state !== 'Established') {
      this.event({ on: 'refresh' });
      return;
    }
    const refresh = readRefresh(body);
    this.event({ on: 'refresh' });
    if (!refresh || (refresh.subtype !== 'request' && !this.negotiated?.enhancedRefresh)) return;
    this.deps.events.refresh(this, refresh.family, refresh.subtype);
  }
}

function joined(first: Uint8Array, second: Uint8Array, length: number): Uint8Array {
  const both = new Uint8Array(first.length + length);
  both.set(first);
  both.set(second.subarray(0, length), first.length);
  return both;
}
