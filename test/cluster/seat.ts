import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask } from '../../src/cli/control.ts';
import type { FelixStatus } from '../../src/felix/status.ts';
import { dist, type Ended, finish } from '../e2e/support.ts';
import { relayProgram } from '../support/kubernetes/relay.ts';
import { ownName } from '../support/leftovers.ts';
import { until } from '../support/wait.ts';
import type { ControlPlane } from './control-plane.ts';
import { Program } from './program.ts';

/*
 * A place for our programs beside a live API server: a network namespace whose 127.0.0.1:6443 leads to the server, and
 * around each program what the containers of the manifests give it. Pods' own containers are not needed for that.
 */

/**
 * The account's folder where a Pod finds it, a file system and /proc/sys that are read only but for what the manifests
 * mount, and the host's sysctls of the network mounted elsewhere. $1: the capabilities that are left; then the program.
 */
const confined = `set -eu
mkdir -p "$SEAT" "$MARGAY_SYSCTL_ROOT/net"
mount -t tmpfs none "$SEAT"
mkdir -p "$SEAT/netns" "$SEAT/secrets/kubernetes.io/serviceaccount"
mount --rbind /run/netns "$SEAT/netns"
mount --bind "$ACCOUNT" "$SEAT/secrets/kubernetes.io/serviceaccount"
mount --rbind "$SEAT" /run
mount --bind "$WRITTEN" "$WRITTEN"
mount --bind /proc/sys/net "$MARGAY_SYSCTL_ROOT/net"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
left=$1
shift
exec setpriv --bounding-set="$left" --no-new-privs "$@"`;

/** What containers of the manifests may do. */
export const capabilities = {
  none: '-all',
  felix: '-all,+net_admin,+net_raw,+sys_admin',
  bgp: '-all,+net_bind_service',
} as const;

export interface SeatProgram {
  /** Arguments of `margay`. */
  readonly args: readonly string[];
  /** A folder with the token of its service account. */
  readonly account: string;
  readonly holds: (typeof capabilities)[keyof typeof capabilities];
  readonly env: Readonly<Record<string, string>>;
}

export class Seat {
  readonly netns = ownName('mg');
  /** Of everything that its programs write. */
  readonly folder = mkdtempSync(join(tmpdir(), 'margay-seat-'));
  readonly #sockets = new Set<Socket>();
  readonly #programs: Program[] = [];
  #server: Server | undefined;

  constructor(private readonly plane: ControlPlane) {}

  /** @param address of its device, with the length of the prefix */
  async start(address: string): Promise<this> {
    ip('netns', 'add', this.netns);
    ip('-n', this.netns, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire');
    for (const device of ['lo', 'wire', 'eth0']) ip('-n', this.netns, 'link', 'set', device, 'up');
    ip('-n', this.netns, 'addr', 'add', address, 'dev', 'eth0');
    for (const name of ['run', 'lib', 'bin', 'conf', 'netns']) mkdirSync(join(this.folder, name));
    const socket = join(this.folder, 'api.sock');
    this.#server = createServer((from) => this.#relay(from));
    await new Promise<void>((done) => this.#server?.listen(socket, done));
    const relay = this.#program('relay', process.execPath, ['-e', relayProgram, socket], {});
    const listens = async () => (await this.run('ss', '-Hltn')).stdout.includes(':6443');
    await relay.ready(listens, 20_000);
    return this;
  }

  /** Where our programs' sockets are. */
  get runDir(): string {
    return join(this.folder, 'run');
  }

  /** What the agents are told beside the manifest's settings. */
  get env(): Record<string, string> {
    return {
      ...{ KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '6443' },
      ...{ MARGAY_RUN_DIR: this.runDir, MARGAY_LIB_DIR: join(this.folder, 'lib') },
      ...{ MARGAY_SYSCTL_ROOT: join(this.folder, 'host'), MARGAY_CNI_CONF_DIR: join(this.folder, 'conf') },
      XTABLES_LOCKFILE: join(this.folder, 'xtables.lock'),
    };
  }

  /** One of our programs, that is not started yet; its output goes to the folder's `<name>.log`. */
  program(name: string, { args, account, holds, env }: SeatProgram): Program {
    const inside = ['--mount', '--propagation', 'slave', 'sh', '-c', confined, 'confined', holds];
    const margay = [process.execPath, join(dist, 'margay.js'), ...args];
    const place = { SEAT: join(this.folder, `run-of-${name}`), ACCOUNT: account, WRITTEN: this.folder };
    return this.#program(name, 'unshare', [...inside, ...margay], { ...this.env, ...env, ...place });
  }

  /** One of our programs, to its end; what it has written. */
  async once(name: string, program: SeatProgram): Promise<string> {
    const made = this.program(name, program);
    made.start();
    await until(() => !made.running, { within: 60_000, what: `${name} ends` });
    return this.output(name);
  }

  /** Felix as it says itself. */
  async status(): Promise<FelixStatus> {
    return (await ask(this.runDir, 'felix', '/v1/status')) as FelixStatus;
  }

  /** Waits until felix, whose program has the name `felix`, has applied what the datastore says and takes pods. */
  async ready(): Promise<void> {
    await until(
      async () => {
        const { inSync, lastApply, datastore } = await this.status();
        return inSync && datastore.connected && lastApply !== undefined && existsSync(join(this.runDir, 'cni.sock'));
      },
      { within: 60_000, what: 'felix is ready', every: 100 },
    ).catch((cause: unknown) => Promise.reject(new Error(this.output('felix').slice(-3000), { cause })));
  }

  /** A command in the namespace, to its end. */
  run(command: string, ...args: readonly string[]): Promise<Ended> {
    return finish('nsenter', [`--net=/run/netns/${this.netns}`, '--', command, ...args]);
  }

  /** Everything that its programs have written. */
  output(name: string): string {
    return readFileSync(join(this.folder, `${name}.log`), 'utf8');
  }

  async stop(): Promise<void> {
    for (const program of this.#programs.toReversed()) await program.stop();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => (this.#server ? this.#server.close(done) : done(undefined)));
    await finish('ip', ['netns', 'del', this.netns]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  #program(name: string, command: string, args: readonly string[], env: Readonly<Record<string, string>>): Program {
    const netns = `/run/netns/${this.netns}`;
    const made = new Program({ command, args, env, netns, logFile: join(this.folder, `${name}.log`) });
    this.#programs.push(made);
    return made;
  }

  #relay(from: Socket): void {
    const to = connect(this.plane.place.ports.api, '127.0.0.1');
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.#sockets.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
}
