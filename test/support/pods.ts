import { type ChildProcess, execFile, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ownName } from './leftovers.ts';
import type { Answer, Probe } from './traffic-agent.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');

export interface Member {
  readonly name: string;
  /** Device on the node's side. */
  readonly device: string;
  readonly addresses: readonly string[];
}

interface Agent {
  readonly process: ChildProcess;
  readonly waiting: Map<number, (answer: Answer) => void>;
}

/**
 * A node as a network namespace, with pods and outside hosts as namespaces behind veths, routed as in production:
 * /32 and /128 addresses and a link-local gateway. Every member answers TCP, UDP and SCTP on the ports.
 */
export class PodNetwork {
  readonly #id = ownName('mgp');
  readonly #agents = new Map<string, Agent>();
  #next = 0;

  constructor(
    readonly members: readonly Member[],
    private readonly ports: readonly number[],
  ) {}

  /** Put in front of a command, runs it in the node's namespace. */
  get launcher(): readonly string[] {
    return ['ip', 'netns', 'exec', this.#namespace('node')];
  }

  /** File of the node's namespace. */
  get path(): string {
    return this.pathOf('node');
  }

  /** File of the namespace of a member, or of `node`. */
  pathOf(name: string): string {
    return `/run/netns/${this.#namespace(name)}`;
  }

  async start(): Promise<void> {
    await this.build();
    await Promise.all(['node', ...this.members.map(({ name }) => name)].map((name) => this.#startAgent(name)));
  }

  /** The namespaces without anybody who answers. */
  async build(): Promise<void> {
    await this.#ip(['netns', 'add', this.#namespace('node')]);
    await this.onNode('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    await this.onNode('ip', 'link', 'set', 'lo', 'up');
    for (const member of this.members) await this.#attach(member);
  }

  async stop(): Promise<void> {
    for (const { process: agent } of this.#agents.values()) agent.kill('SIGKILL');
    for (const name of ['node', ...this.members.map((member) => member.name)]) {
      const there = (await run('ip', ['netns', 'list'])).stdout.includes(this.#namespace(name));
      if (there) await this.#ip(['netns', 'del', this.#namespace(name)]);
    }
  }

  /** Whether a TCP, UDP or SCTP exchange from a member (or `node`) gets an answer. */
  probe(from: string, probe: Omit<Probe, 'id'>): Promise<boolean> {
    const agent = this.#agents.get(from);
    if (!agent) throw new Error(`no member ${from}`);
    const id = this.#next++;
    return new Promise((resolve) => {
      agent.waiting.set(id, ({ reached }) => resolve(reached));
      agent.process.stdin?.write(`${JSON.stringify({ ...probe, id })}\n`);
    });
  }

  /** Whether one ICMP echo gets an answer. */
  async ping(from: string, address: string, timeoutSeconds: number): Promise<boolean> {
    const args = ['netns', 'exec', this.#namespace(from), 'ping', '-n', '-c1', `-W${timeoutSeconds}`, address];
    return new Promise((resolve) => {
      execFile('ip', args, (error) => resolve(error === null));
    });
  }

  async onNode(...command: string[]): Promise<string> {
    const [program = '', ...args] = [...this.launcher, ...command];
    return (await run(program, args)).stdout;
  }

  #namespace(name: string): string {
    return `${this.#id}-${name}`;
  }

  async #ip(args: string[]): Promise<void> {
    await run('ip', args);
  }

  async #attach({ name, device, addresses }: Member): Promise<void> {
    const inside = this.#namespace(name);
    await this.#ip(['netns', 'add', inside]);
    const link = ['link', 'add', device, 'netns', this.#namespace('node')];
    await this.#ip([...link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inside]);
    const gateway = ['addr add 169.254.1.1/32 dev', 'addr add fe80::1/64 nodad dev'].map((text) => `${text} ${device}`);
    const routes = addresses.map((address) => `route add ${address} dev ${device}`);
    await this.#batch('node', [`link set ${device} up`, ...gateway, ...routes]);
    await this.#batch(name, [
      'link set lo up',
      'link set eth0 up',
      ...addresses.map((address) => `addr add ${address}/${address.includes(':') ? '128 nodad' : '32'} dev eth0`),
      'route add 169.254.1.1 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
      '-6 route add default via fe80::1 dev eth0',
    ]);
  }

  async #batch(name: string, lines: readonly string[]): Promise<void> {
    for (const line of lines) await run('ip', ['-n', this.#namespace(name), ...line.split(' ')]);
  }

  async #startAgent(name: string): Promise<void> {
    const node = path.join(root, 'node_modules/.bin/node');
    const script = path.join(root, 'test/support/traffic-agent.ts');
    const args = ['netns', 'exec', this.#namespace(name), node, script, ...this.ports.map(String)];
    const child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const agent: Agent = { process: child, waiting: new Map() };
    this.#agents.set(name, agent);
    const lines = createInterface({ input: child.stdout });
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the agent in ${name} ended with ${code}`)));
      lines.on('line', (line) => {
        if (line === 'ready') return resolve();
        const answer = JSON.parse(line) as Answer;
        agent.waiting.get(answer.id)?.(answer);
        agent.waiting.delete(answer.id);
      });
    });
  }
}
