import { createSocket } from 'node:dgram';
import type { Socket } from 'node:net';
import { errorCode } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { tcpSocketIn, within } from './sockets.ts';

/** What a responder answers. */
export interface Answer {
  /** Name of the machine that answered. */
  readonly name: string;
  /** Source address it saw. */
  readonly from: string;
}

export interface Target {
  readonly address: string;
  readonly port: number;
  readonly family: Family;
}

/**
 * One HTTP request from a namespace.
 * @returns the answer, or why there was none: `timeout`, or the system's error code
 */
export function http(netns: string, target: Target, timeoutMs: number): Promise<Answer | string> {
  const socket = tcpSocketIn(netns, target.family);
  return new Promise((resolve) => {
    let text = '';
    const finish = (result: Answer | string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish('timeout'), timeoutMs);
    socket.setEncoding('utf8');
    socket.once('error', (error) => finish(errorCode(error) ?? error.message));
    socket.on('data', (chunk: string) => {
      text += chunk;
    });
    socket.once('end', () => finish(parseAnswer(text.slice(text.indexOf('\r\n\r\n') + 4))));
    socket.connect({ host: target.address, port: target.port }, () => {
      socket.write(`GET / HTTP/1.0\r\nHost: ${target.address}\r\n\r\n`);
    });
  });
}

/** One datagram from a namespace, sent again every 100 ms while no answer came. */
export function udp(netns: string, target: Target, timeoutMs: number, everyMs = 100): Promise<Answer | string> {
  // A lookup that answers at once makes `bind` synchronous, and so the socket is born in the namespace.
  const socket = createSocket({ type: target.family === 4 ? 'udp4' : 'udp6', lookup: atOnce });
  return new Promise((resolve) => {
    const finish = (result: Answer | string) => {
      clearTimeout(timer);
      clearInterval(again);
      socket.close();
      resolve(result);
    };
    // An error of one datagram (no route yet) is no verdict: another follows until the time is over.
    let last = 'timeout';
    const send = () =>
      socket.send('?', target.port, target.address, (error) => {
        if (error) last = errorCode(error) ?? error.message;
      });
    const timer = setTimeout(() => finish(last), timeoutMs);
    const again = setInterval(send, everyMs);
    socket.on('error', (error) => {
      last = errorCode(error) ?? error.message;
    });
    socket.on('message', (message) => finish(parseAnswer(message.toString('utf8'))));
    within(netns, () => socket.bind(0));
    send();
  });
}

type Lookup = NonNullable<Parameters<typeof createSocket>[0] & object>['lookup' & keyof object];

/** Answers with the literal address that it was asked for. */
export const atOnce = ((host: string, _options: unknown, answer: (e: null, address: string, family: number) => void) =>
  answer(null, host, host.includes(':') ? 6 : 4)) as unknown as NonNullable<Lookup>;

/** A TCP connection that stays open: each `ask` writes a line and waits for one. */
export class HeldConnection {
  readonly #socket: Socket;
  #failure: string | undefined;
  #waiting: ((line: string | undefined) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (line: string) => this.#answer(line));
    socket.on('error', (error) => {
      this.#failure = errorCode(error) ?? error.message;
      this.#answer(undefined);
    });
  }

  static open(netns: string, target: Target, timeoutMs: number): Promise<HeldConnection | string> {
    const socket = tcpSocketIn(netns, target.family);
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        socket.destroy();
        resolve('timeout');
      }, timeoutMs);
      const held = new HeldConnection(socket);
      socket.once('error', (error) => {
        clearTimeout(timer);
        resolve(errorCode(error) ?? error.message);
      });
      socket.connect({ host: target.address, port: target.port }, () => {
        clearTimeout(timer);
        resolve(held);
      });
    });
  }

  /** True when the other side echoed a line within the time. */
  ask(timeoutMs: number): Promise<boolean> {
    if (this.#failure !== undefined) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#answer(undefined), timeoutMs);
      this.#waiting = (line) => {
        clearTimeout(timer);
        resolve(line !== undefined);
      };
      this.#socket.write('echo\n');
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #answer(line: string | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(line);
  }
}

function parseAnswer(text: string): Answer | string {
  try {
    const { name, from } = JSON.parse(text) as Partial<Answer>;
    return typeof name === 'string' && typeof from === 'string' ? { name, from } : 'garbled';
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return 'garbled';
    throw thrown;
  }
}
