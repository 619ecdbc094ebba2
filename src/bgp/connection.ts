import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { type Family, type Ip, parseIp } from '../model/address.ts';
import { type Action, type Ending, type Event, type Machine, type State, step, type TimerName } from './fsm.ts';
import { defaultLimits } from './limits.ts';
import { type Negotiated, type SessionConfig, sendHoldSeconds } from './negotiate.ts';
import { MessageTally } from './tally.ts';
import { Timers } from './timers.ts';
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
  /** What was queued has gone out. */
  drained(connection: Connection): void;
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
  /** Octets queued above which no more UPDATEs are handed over. Default: `defaultLimits`. */
  readonly queuedOctets?: number;
}

/** How long a half-closed connection may go on sending before it is cut. */
const drainMilliseconds = 2000;
/** Octets that came at once after which the event loop goes round before more is read: about a socket's buffer. */
const chunkWorthATurn = 32_768;

/** Runs the state machine of one TCP connection: its actions become writes, timers and events to the peer. */
export class Connection {
  #machine: Machine;
  #socket: Socket | undefined;
  #last: Socket | undefined;
  #sentOpen: Uint8Array | undefined;
  #receivedOpen: Uint8Array | undefined;
  #rest: Uint8Array = new Uint8Array(0);
  #corked = false;
  /** An UPDATE in the octets that are being read has shown the state machine that the peer lives. */
  #heard = false;
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

  /** Hands whole messages to the socket; what is handed over in one turn leaves in one write. */
  send(messages: readonly Uint8Array[]): void {
    const socket = this.#socket;
    if (!socket || socket.destroyed || socket.writableEnded) return;
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    const last = messages.length - 1;
    for (const [i, message] of messages.entries()) {
      this.#tally.sent(message);
      if (i < last) socket.write(message);
      else socket.write(message, () => this.#progressed(socket));
    }
    if (this.#timers.left('sendHold') === undefined) this.#armSendHold();
  }

  /** The kernel has taken what was handed over up to some point: the peer reads. */
  #progressed(socket: Socket): void {
    if (this.#socket !== socket) return;
    if (socket.writableLength === 0) this.#timers.disarm('sendHold');
    else this.#armSendHold();
  }

  #armSendHold(): void {
    this.#timers.arm('sendHold', sendHoldSeconds(this.deps.config()) * 1000);
  }

  /** Octets that wait for the peer to read. */
  get unsent(): number {
    return this.#socket?.writableLength ?? 0;
  }

  writable(): boolean {
    return this.unsent < (this.deps.queuedOctets ?? defaultLimits.queuedOctets);
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
      if (name === 'hold' || this.unsent > 0) this.event({ on: `${name}Expired` });
    });
  }

  #attach(socket: Socket): void {
    this.#detach();
    this.#socket = socket;
    this.#last = socket;
    this.#rest = new Uint8Array(0);
    socket.setNoDelay(true);
    const current = (react: () => void) => () => {
      if (this.#socket === socket) react();
    };
    socket.on(
      'connect',
      current(() => this.event({ on: 'tcpUp' })),
    );
    socket.on('data', (chunk: Uint8Array) => {
      if (this.#socket !== socket) return;
      this.#received(chunk);
      // libuv hands over up to 32 chunks at once; other sessions' timers and the tables shall not wait for all of them.
      if (this.#socket !== socket || chunk.length < chunkWorthATurn) return;
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.on(
      'drain',
      current(() => this.deps.events.drained(this)),
    );
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
  }

  /** Half-close, so that the last message arrives, then drain what still comes in. RFC 4271 §6 wants it delivered. */
  #close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#timers.disarm('sendHold');
    if (!socket || socket.destroyed) return;
    if (socket.connecting) {
      socket.destroy();
      return;
    }
    if (this.#corked) socket.uncork();
    socket.resume();
    socket.end();
    const cancel = this.deps.clock.after(drainMilliseconds, () => socket.destroy());
    socket.once('close', cancel);
  }

  #received(chunk: Uint8Array): void {
    const joined = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    // A plain array: slices of a Buffer would be views and keep all of it alive.
    const stream = new Uint8Array(joined.buffer, joined.byteOffset, joined.length);
    const socket = this.#socket;
    let at = 0;
    this.#heard = false;
    try {
      for (;;) {
        const frame = readFrame(stream, at, this.negotiated?.extendedMessages ? maxExtendedLength : maxMessageLength);
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
    this.#rest = stream.subarray(at);
  }

  /** @throws WireError */
  #take(frame: Frame): void {
    this.#tally.received(frame.type);
    switch (frame.type) {
      case 'open':
        this.#receivedOpen = writeFrame('open', (w) => w.bytes(frame.body));
        this.event({ on: 'open', open: readOpen(frame.body) });
        break;
      case 'keepalive':
        this.event({ on: 'keepalive' });
        break;
      case 'notification':
        this.event({ on: 'notification', notification: readNotification(frame.body) });
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
    if (!this.#heard) this.event({ on: 'update' });
    this.#heard = true;
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
