import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Namespace } from '../dataplane/felix/support.ts';
import { until } from './wait.ts';

/** Octets come back as they are sent. */
const server = `
const { createServer } = require('node:net');
createServer((socket) => socket.on('error', () => socket.destroy()).pipe(socket)).listen(+process.argv[1], () => console.log('ready'));
`;

/** An octet every 40 ms on one connection; a line of input asks for what came back since the last. */
const client = `
const { connect } = require('node:net');
const socket = connect(+process.argv[2], process.argv[1], () => {
  console.log('ready');
  let last = performance.now(), longest = 0, received = 0;
  const gap = () => { const now = performance.now(); longest = Math.max(longest, now - last); return now; };
  setInterval(() => socket.write('x'), 40);
  socket.setNoDelay().on('data', (data) => { last = gap(); received += data.length; });
  process.stdin.on('data', () => {
    gap();
    console.log(JSON.stringify({ received, longestMs: Math.round(longest) }));
    longest = received = 0;
  });
});
socket.on('error', (error) => { console.log(error.code); process.exit(1); });
socket.on('close', () => process.exit(1));
`;

export interface Progress {
  /** Octets that came back. */
  readonly received: number;
  /** Milliseconds, the longest that nothing came back. */
  readonly longestMs: number;
}

/** An established TCP connection from one namespace to another, both in processes of their own. */
export class Stream {
  private constructor(
    private readonly processes: readonly ChildProcess[],
    private readonly lines: Lines,
  ) {}

  static async open(from: Namespace, to: Namespace, address: string, port: number): Promise<Stream> {
    const started: ChildProcess[] = [];
    const run = async (namespace: Namespace, ...command: string[]) => {
      const child = spawn('nsenter', [`--net=${namespace.path}`, process.execPath, '-e', ...command]);
      started.push(child);
      const lines = new Lines(child);
      const first = await lines.next();
      if (first !== 'ready') throw new Error(`the stream does not start: ${first}`);
      return lines;
    };
    try {
      await run(to, server, String(port));
      return new Stream(started, await run(from, client, address, String(port)));
    } catch (thrown) {
      for (const child of started) child.kill('SIGKILL');
      throw thrown;
    }
  }

  /** Since the last call. @throws Error when the connection has ended */
  async progress(): Promise<Progress> {
    this.processes.at(-1)?.stdin?.write('\n');
    return JSON.parse(await this.lines.next()) as Progress;
  }

  /** Waits until octets sent from now on have come back. @returns the longest standstill since the last call */
  async goesOn(within: number, what: string): Promise<number> {
    const { longestMs } = await this.progress();
    let received = 0;
    const enough = async () => {
      received += (await this.progress()).received;
      return received > 10;
    };
    await until(enough, { within, what: `${what}: the connection goes on` });
    return longestMs;
  }

  close(): void {
    for (const child of this.processes) child.kill('SIGKILL');
  }
}

/** A process's output, line by line. */
class Lines {
  readonly #iterator: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    if (!child.stdout) throw new Error('a process without output');
    this.#iterator = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async next(): Promise<string> {
    const { value, done } = await this.#iterator.next();
    if (done) throw new Error('the process has ended');
    return String(value);
  }
}
