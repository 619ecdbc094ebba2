import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../wait.ts';
import type { Link } from './network.ts';

/** BIRD in the host `them` with a whole configuration of the test's own. */
export class BirdRouter {
  readonly #file: string;
  readonly #socket: string;

  constructor(private readonly link: Link) {
    this.#file = join(link.directory, 'router.conf');
    this.#socket = join(link.directory, 'router.ctl');
  }

  async start(configuration: string): Promise<void> {
    writeFileSync(this.#file, configuration);
    this.link.spawn('them', 'router', 'bird', ['-f', '-c', this.#file, '-s', this.#socket]);
    await until(() => this.ask('show', 'status'), { within: 10_000, what: 'BIRD answers' });
  }

  async reconfigure(configuration: string): Promise<void> {
    writeFileSync(this.#file, configuration);
    await this.ask('configure');
  }

  ask(...command: readonly string[]): Promise<string> {
    return this.link.exec('them', 'birdc', ['-s', this.#socket, ...command]);
  }

  /** Waits until the protocol says this. */
  async says(protocol: string, pattern: RegExp): Promise<void> {
    await until(async () => pattern.test(await this.ask('show', 'protocols', 'all', protocol)), {
      within: 60_000,
      what: `BIRD's ${protocol}: ${pattern}`,
    });
  }
}

/** What runs beside bgpd. */
interface FrrOptions {
  /** Tells bgpd of interfaces, which link-local sessions need. */
  readonly zebra?: boolean;
  /** bfdd, with zebra. */
  readonly bfd?: boolean;
}

/** FRR's bgpd in the host `them`, with a whole configuration of the test's own; without zebra unless asked for. */
export class FrrRouter {
  readonly #directory: string;

  constructor(private readonly link: Link) {
    this.#directory = join(link.directory, 'router-frr');
    mkdirSync(this.#directory, { mode: 0o777 });
  }

  async start(configuration: string, port = 179, options: FrrOptions = {}): Promise<void> {
    const { bfd = false, zebra = bfd } = options;
    if (zebra) await this.#startZebra();
    if (bfd) await this.#startBfdd();
    const file = join(this.#directory, 'bgpd.conf');
    writeFileSync(file, configuration);
    // -S: stay root; -Z: no zebra.
    const args = [
      '-S',
      ...this.#common('bgpd'),
      '-f',
      file,
      '-p',
      String(port),
      ...(zebra ? ['-z', this.#zserv] : ['-Z']),
    ];
    this.link.spawn('them', 'router-frr', '/usr/lib/frr/bgpd', args);
    await until(() => this.show('show bgp summary json'), { within: 15_000, what: 'FRR answers' });
  }

  show(...commands: readonly string[]): Promise<string> {
    const args = commands.flatMap((command) => ['-c', command]);
    return this.link.exec('them', 'vtysh', ['--vty_socket', this.#directory, ...args]);
  }

  get #zserv(): string {
    return join(this.#directory, 'zserv.api');
  }

  async #startZebra(): Promise<void> {
    const file = join(this.#directory, 'zebra.conf');
    writeFileSync(file, '');
    // It runs as FRR's own user, who must get at the sockets.
    chmodSync(this.link.directory, 0o711);
    chmodSync(this.#directory, 0o777);
    this.link.spawn('them', 'zebra', '/usr/lib/frr/zebra', [...this.#common('zebra'), '-f', file, '-z', this.#zserv]);
    await until(() => this.show('show interface brief'), { within: 15_000, what: 'zebra answers' });
  }

  async #startBfdd(): Promise<void> {
    const file = join(this.#directory, 'bfdd.conf');
    writeFileSync(file, '');
    const sockets = ['-z', this.#zserv, '--bfdctl', join(this.#directory, 'bfdd.sock')];
    this.link.spawn('them', 'bfdd', '/usr/lib/frr/bfdd', [...this.#common('bfdd'), '-f', file, ...sockets]);
    await until(() => this.show('show bfd peers'), { within: 15_000, what: 'bfdd answers' });
  }

  #common(daemon: string): string[] {
    const pid = join(this.#directory, `${daemon}.pid`);
    return ['-P', '0', '--log', 'stdout', '-i', pid, '--vty_socket', this.#directory];
  }
}
