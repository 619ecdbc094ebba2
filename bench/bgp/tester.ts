import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { ExitError, exitCode } from '../../src/cli/exit.ts';

/** CLOCK_MONOTONIC, seconds. */
type Instant = number;

interface Replies {
  /** When the first and the last of the sessions came up. */
  connect: { first: Instant; last: Instant };
  send: { began: Instant; written: Instant };
  /** The recv of the first UPDATE, and the last one that completed a session's table; counts of all sessions together. */
  expect: { first: Instant; last: Instant; updates: number; octets: number; digest: number };
  mark: object;
  attributes: { attributes: string };
}

/** Something the tester or the device under test did not do. */
export class TrialError extends ExitError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCode.failure, message, options);
  }
}

/** The C program of bench/bgp/tester: speakers that send what was encoded before and store what comes. */
export class Tester {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: { resolve: (line: string) => void; reject: (reason: unknown) => void }[] = [];
  readonly #aborted: () => void;
  #complaint = '';
  #ended: unknown;

  /** @param within the namespace; @param program the built program; @param stream what it may send */
  constructor(
    within: readonly string[],
    program: string,
    stream: string,
    private readonly signal: AbortSignal,
  ) {
    const [command = '', ...args] = [...within, program, 'speak', stream];
    // A group of its own: Ctrl-C is this process's to handle.
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint += text;
    });
    this.#child.on('error', (error) => this.#fail(error));
    this.#child.on('close', () => this.#fail(new TrialError(this.#complaint.trim() || 'the tester ended')));
    // A program that ends without reading closes the pipe; its end tells the story.
    this.#child.stdin?.on('error', () => undefined);
    if (!this.#child.stdout) throw new TrialError('the tester has no output');
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#lines.on('line', (line) => this.#waiting.shift()?.resolve(line));
    this.#aborted = () => this.#fail(signal.reason);
    signal.addEventListener('abort', this.#aborted);
  }

  connect(
    dut: string,
    port: number,
    asn: number,
    seconds: number,
    from: readonly string[],
  ): Promise<Replies['connect']> {
    return this.#ask('connect', dut, port, asn, seconds, ...from);
  }

  /** A part of the stream, by the first session. */
  send(offset: number, length: number): Promise<Replies['send']> {
    return this.#ask('send', offset, length);
  }

  /** The n-th session sends the n-th `length` octets of the stream. */
  sendEach(length: number): Promise<Replies['send']> {
    return this.#ask('send-each', length);
  }

  /** Until each session holds exactly so many prefixes. Reads what has come after each `quietMs` without anything new. */
  expect(prefixes: number, quietMs: number, seconds: number): Promise<Replies['expect']> {
    return this.#ask('expect', prefixes, quietMs, seconds);
  }

  /** Counts begin at zero again; the tables stay. */
  mark(): Promise<Replies['mark']> {
    return this.#ask('mark');
  }

  /** Path attributes of the first UPDATE that announced something to the first session. */
  async attributes(): Promise<Uint8Array> {
    return Buffer.from((await this.#ask<Replies['attributes']>('attributes')).attributes, 'hex');
  }

  async close(): Promise<void> {
    this.signal.removeEventListener('abort', this.#aborted);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return;
    const gone = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }

  async #ask<T extends object>(...words: readonly (string | number)[]): Promise<T> {
    this.signal.throwIfAborted();
    if (this.#ended !== undefined) throw this.#ended;
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin?.write(`${words.join(' ')}\n`);
    });
    const reply: T & { error?: string } = JSON.parse(line);
    if (reply.error !== undefined) throw new TrialError(`${words[0]}: ${reply.error}`);
    return reply;
  }

  #fail(reason: unknown): void {
    this.#ended = reason;
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }
}
