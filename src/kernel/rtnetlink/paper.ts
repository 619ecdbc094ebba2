import {
  NLM_F_ACK,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  RTM_DELROUTE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
} from './constants.ts';
import { type Message, MessageWriter, messageHeader, readMessages } from './message.ts';
import { destinationOffset, lengthOffset } from './route.ts';
import type { Wire } from './wire.ts';

/** About as much as the kernel puts into a datagram of a dump. */
const datagramSize = 32 * 1024;

/**
 * A routing table on paper: it answers netlink's messages on the IPv4 routes of one table as the kernel does, for a
 * rehearsal and for tests. What else it is asked it acknowledges. A route is kept as the message that set it.
 */
export class PaperWire implements Wire {
  readonly fd = -1;
  /** Destination and prefix length as one number → the message's body. */
  readonly #routes = new Map<number, Int32Array>();
  #answers: Uint8Array[] = [];
  #next = 0;

  /** Takes routes away behind their owner's back: each for which `gone` says so, counted from 0 in the order of their destinations. */
  lose(gone: (at: number) => boolean): void {
    const keys = [...this.#routes.keys()].sort((a, b) => a - b);
    for (const [at, key] of keys.entries()) if (gone(at)) this.#routes.delete(key);
  }

  get count(): number {
    return this.#routes.size;
  }

  send(octets: Uint8Array): number {
    this.#answers = this.#answers.slice(this.#next);
    this.#next = 0;
    for (const message of readMessages(octets)) this.#take(message);
    return octets.length;
  }

  /** @throws Error where the kernel would have nothing to say */
  receive(into: Uint8Array): number {
    const answer = this.#answers[this.#next];
    if (!answer) throw new Error('nothing was asked');
    this.#next++;
    into.set(answer);
    return answer.length;
  }

  close(): void {
    this.#routes.clear();
  }

  #take(message: Message): void {
    const { type, flags, sequence, payload } = message;
    if (type === RTM_GETROUTE) this.#dump(sequence);
    if (type === RTM_NEWROUTE) this.#routes.set(keyOf(payload), new Int32Array(payload.slice().buffer));
    if (type === RTM_DELROUTE) this.#routes.delete(keyOf(payload));
    if (flags & NLM_F_ACK) this.#answer((w) => writeCode(w, NLMSG_ERROR, 0, sequence));
  }

  #dump(sequence: number): void {
    const w = new MessageWriter(datagramSize);
    for (const [, body] of [...this.#routes].sort(([a], [b]) => a - b)) {
      if (w.length + messageHeader + body.byteLength > datagramSize) {
        this.#answers.push(w.written.slice());
        w.clear();
      }
      const at = w.begin(RTM_NEWROUTE, NLM_F_MULTI, sequence);
      w.append(body);
      w.end(at);
    }
    if (w.length > 0) this.#answers.push(w.written.slice());
    this.#answer((last) => writeCode(last, NLMSG_DONE, NLM_F_MULTI, sequence));
  }

  #answer(write: (w: MessageWriter) => void): void {
    const w = new MessageWriter(64);
    write(w);
    this.#answers.push(w.written);
  }
}

/** NLMSG_ERROR or NLMSG_DONE that tells of no failure. */
function writeCode(w: MessageWriter, type: number, flags: number, sequence: number): void {
  const at = w.begin(type, flags, sequence);
  w.u32(0);
  w.end(at);
}

/** Of a body as `writeRoute` and `writeRouteRemoval` write it. */
function keyOf(body: Uint8Array): number {
  const view = new DataView(body.buffer, body.byteOffset);
  return view.getUint32(destinationOffset) * 64 + view.getUint8(lengthOffset);
}
