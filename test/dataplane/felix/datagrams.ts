import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';

/** A network namespace, by the file that holds it. */
interface Space {
  readonly path: string;
}

const sink = `
const socket = require('node:dgram').createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
const seen = new Set();
socket.on('message', (message) => seen.add(message.readUInt32BE(0)));
socket.bind(+process.argv[1], () => console.log('ready'));
process.stdin.on('data', () => console.log(seen.size));
`;

/** Catches up after it was not given the processor, so that the mean holds. */
const source = `
const socket = require('node:dgram').createSocket('udp4');
let sent = 0, stopped = false;
const began = performance.now();
const message = Buffer.alloc(64);
const tick = setInterval(() => {
  const due = Math.floor(performance.now() - began);
  for (let burst = 0; sent < due && burst < 50 && !stopped; burst++) {
    message.writeUInt32BE(sent++, 0);
    socket.send(Buffer.from(message), +process.argv[2], process.argv[1]);
  }
}, 1);
process.stdin.on('data', () => { stopped = true; clearInterval(tick); console.log(sent); });
console.log('ready');
`;

/** A thousand numbered datagrams a second from one namespace to another. */
export class Datagrams {
  private constructor(
    private readonly sender: Program,
    private readonly receiver: Program,
  ) {}

  static async start(from: Space, to: Space, address: string): Promise<Datagrams> {
    const receiver = await Program.start(to, sink, '9000');
    return new Datagrams(await Program.start(from, source, address, '9000'), receiver);
  }

  /** Ends the stream. @returns how many were sent */
  async end(): Promise<number> {
    return Number(await this.sender.ask());
  }

  /** How many have come. */
  async received(): Promise<number> {
    return Number(await this.receiver.ask());
  }

  kill(): void {
    this.sender.kill();
    this.receiver.kill();
  }
}

class Program {
  readonly #answers: AsyncIterator<string>;

  private constructor(
    private readonly child: ChildProcess,
    lines: Interface,
  ) {
    this.#answers = lines[Symbol.asyncIterator]();
  }

  static async start(space: Space, source: string, ...args: string[]): Promise<Program> {
    const command = [`--net=${space.path}`, process.execPath, '-e', source, ...args];
    const child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    const program = new Program(child, createInterface({ input: child.stdout }));
    const first = await program.#next();
    if (first !== 'ready') throw new Error(`the program does not start: ${first}`);
    return program;
  }

  ask(): Promise<string> {
    this.child.stdin?.write('\n');
    return this.#next();
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the program has ended');
    return value;
  }
}
