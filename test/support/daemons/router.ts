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

/** FRR's bgpd in the host `them`, with a whole configuration of the test's own; without zebra unless asked for. */
export class FrrRouter {
  readonly #directory: string;

  constructor(private readonly link: Link) {
    this.#directory = join(link.directory, 'router-frr');
    mkdirSync(this.#directory, { mode: 0o777 });
  }

  /** @param options `zebra`: it tells bgpd of interfaces, which link-local sessions need */
  async start(configuration: string, port = 179, { zebra = false } = {}): Promise<void> {
    if (zebra) await this.#startZebra();
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

  #common(daemon: string): string[] {
    const pid = join(this.#directory, `${daemon}.pid`);
    return ['-P', '0', '--log', 'stdout', '-i', pid, '--vty_socket', this.#directory];
  }
}
