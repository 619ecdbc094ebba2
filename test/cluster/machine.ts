import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kill } from '../../src/lab/processes.ts';
import { ownName } from '../support/leftovers.ts';
import { until } from '../support/wait.ts';
import { Program } from './program.ts';

/*
 * A machine of a cluster: a network namespace on a bridge, with a mount namespace in which the places that a node has
 * once (/run, /etc, /opt, /var/lib, /var/log) are its own. What is written there lands in a folder of the test.
 */

/** A bridge in a network namespace, to which machines are linked; the bridge itself is a host of the network. */
export class Fabric {
  readonly netns = ownName('mg');
  readonly #network: string;

  /** @param network the first three octets of its /24 */
  constructor(network: string) {
    this.#network = network;
    ip('netns', 'add', this.netns);
    const lines = ['link set lo up', 'link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0'];
    this.run([...lines, `addr add ${this.address(1)}/24 dev br0`, 'link set br0 up']);
  }

  /** Address of a host of the network. */
  address(host: number): string {
    return `${this.#network}.${host}`;
  }

  /** `ip -batch` in the bridge's namespace. */
  run(lines: readonly string[]): void {
    execFileSync('ip', ['-n', this.netns, '-batch', '-'], { input: lines.join('\n') });
  }

  remove(): void {
    ip('netns', 'del', this.netns);
  }
}

/** What the kubelet would set for the whole machine, and what it then finds set. */
const tunables = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
};

/** Places of a node under which it writes; those above them are read from the machine that the test runs on. */
const layered = ['/etc', '/opt', '/var/lib', '/var/log'];
/** Places that hold file systems of their own, which those above cannot. */
const plain = ['/var/lib/containerd', '/var/lib/kubelet'];

export class Machine {
  readonly name: string;
  readonly address: string;
  readonly netns = ownName('mg');
  readonly #fabric: Fabric;
  readonly #port: string;
  /** Where its files lie, under the same path inside. */
  readonly folder: string;
  #holder: ChildProcess | undefined;

  /** @param folder of the test, on a file system that overlayfs can write to @param host the last octet of its address */
  constructor(fabric: Fabric, folder: string, name: string, host: number) {
    this.name = name;
    this.address = fabric.address(host);
    this.#fabric = fabric;
    this.#port = `port${host}`;
    this.folder = join(folder, name);
  }

  /** Makes its namespaces and waits until they can be entered. */
  async start(): Promise<this> {
    ip('netns', 'add', this.netns);
    this.#fabric.run([
      `link add ${this.#port} type veth peer name eth0 netns ${this.netns}`,
      `link set ${this.#port} master br0`,
      `link set ${this.#port} up`,
    ]);
    const inside = ['link set lo up', `addr add ${this.address}/24 dev eth0`, 'link set eth0 up'];
    const route = `route add default via ${this.#fabric.address(1)}`;
    execFileSync('ip', ['-n', this.netns, '-batch', '-'], { input: [...inside, route].join('\n') });
    const script = join(this.folder, 'mounts.sh');
    mkdirSync(this.folder, { recursive: true });
    writeFileSync(script, this.#mounts());
    const unshare = ['unshare', '--mount', '--uts', '--propagation', 'private', '--', 'sh', '-eu', script];
    this.#holder = spawn('nsenter', [`--net=/run/netns/${this.netns}`, '--', ...unshare]);
    let said = '';
    this.#holder.stdout?.on('data', (chunk: Buffer) => (said += String(chunk)));
    this.#holder.stderr?.on('data', (chunk: Buffer) => (said += String(chunk)));
    const stands = () => said.includes('ready') || (this.#holder?.exitCode !== null && Promise.reject(new Error(said)));
    await until(stands, { within: 10_000, what: `the mounts of ${this.name}` });
    return this;
  }

  /** Arguments of `nsenter` that lead into it. */
  get entrance(): readonly string[] {
    return [`--target=${this.#holder?.pid ?? 0}`, '--mount', '--uts', '--net', '--'];
  }

  /** Runs a command on it to its end. @throws when it fails */
  run(...command: readonly string[]): string {
    return execFileSync('nsenter', [...this.entrance, ...command], { encoding: 'utf8', stdio: 'pipe' });
  }

  /** A program that runs on it, its output in a file of the test's folder: `<name>.log`. */
  program(name: string, command: string, args: readonly string[]): Program {
    const logFile = join(this.folder, `${name}.log`);
    return new Program({ command: 'nsenter', args: [...this.entrance, command, ...args], logFile });
  }

  /** Puts a file of the test into its folder; the path, which is the same inside. */
  write(name: string, text: string): string {
    const file = join(this.folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  }

  /** Ends whatever still runs on it, which takes its mounts along, and removes its links. */
  async remove(): Promise<void> {
    const pids = () => ip('netns', 'pids', this.netns).split('\n').filter(Boolean).map(Number);
    for (const pid of pids()) kill(pid);
    await until(() => pids().length === 0, { within: 10_000, what: `the processes of ${this.name} end` });
    ip('netns', 'del', this.netns);
  }

  /** What is mounted where, as a script that then stays, since the namespace lives as long as it does. */
  #mounts(): string {
    // Namespaces of others, which a mount kept here would keep alive.
    const lines = [`hostname ${this.name}`, '! mountpoint -q /run/netns || umount -R -l /run/netns'];
    for (const place of layered) {
      const own = join(this.folder, place.replaceAll('/', '-').slice(1));
      lines.push(`mkdir -p ${own}/upper ${own}/work`);
      lines.push(`mount -t overlay overlay -o lowerdir=${place},upperdir=${own}/upper,workdir=${own}/work ${place}`);
    }
    for (const place of plain) {
      const own = join(this.folder, place.replaceAll('/', '-').slice(1));
      lines.push(`mkdir -p ${own} ${place}`, `mount --bind ${own} ${place}`);
    }
    lines.push('mount -t tmpfs -o mode=755 tmpfs /run', 'mkdir /run/netns /run/lock');
    for (const [path, value] of Object.entries(tunables)) {
      const own = join(this.folder, path.replaceAll('/', '-'));
      lines.push(`echo ${value} >${own}`, `mount --bind ${own} /proc/sys/${path}`);
    }
    return [...lines, 'mount --make-rshared /', 'echo ready', 'exec sleep infinity', ''].join('\n');
  }
}

function ip(...args: readonly string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8' });
}
