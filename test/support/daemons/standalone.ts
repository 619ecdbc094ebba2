import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { RouteStatus } from '../../../src/bgp/control.ts';
import type { PeerStatus } from '../../../src/bgp/peer.ts';
import { until } from '../wait.ts';
import { bundled } from './bundle.ts';
import type { Host, Link } from './network.ts';
import { getJson } from './speaker.ts';

/** `margay bgp --config` in a host of a link. */
export class Standalone {
  readonly #program: string;
  readonly #file: string;
  readonly #socket: string;
  #child: ChildProcess | undefined;

  constructor(
    private readonly link: Link,
    private readonly host: Host = 'us',
  ) {
    this.#program = bundled('standalone-main.ts');
    this.#file = join(link.directory, `${host}.yaml`);
    this.#socket = join(link.directory, `${host}.sock`);
  }

  start(file: object): void {
    this.#write(file);
    this.#child = this.link.spawn(this.host, this.#name, process.execPath, [this.#program, this.#file]);
  }

  /** Writes the file again and sends SIGHUP. */
  reload(file: object): void {
    this.#write(file);
    this.#child?.kill('SIGHUP');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#child) await this.link.kill(this.#child, signal);
  }

  get output(): string {
    return this.link.output(this.#name);
  }

  async peers(): Promise<PeerStatus[]> {
    return ((await getJson(this.#socket, '/v1/peers')) as { peers: PeerStatus[] }).peers;
  }

  async peer(name: string): Promise<PeerStatus | undefined> {
    return (await this.peers()).find((peer) => peer.name === name);
  }

  /** Waits until the peer is up. */
  async established(name: string): Promise<PeerStatus> {
    return until(
      async () => {
        const peer = await this.peer(name);
        return peer?.state === 'Established' ? peer : undefined;
      },
      { within: 60_000, what: `session with ${name} established` },
    );
  }

  async learnt(prefix: string): Promise<RouteStatus> {
    const path = `/v1/routes?prefix=${prefix}`;
    return until(async () => ((await getJson(this.#socket, path)) as { routes: RouteStatus[] }).routes[0], {
      within: 30_000,
      what: `route to ${prefix}`,
    });
  }

  get #name(): string {
    return `standalone-${this.host}`;
  }

  #write(file: object): void {
    writeFileSync(this.#file, stringify({ control: this.#socket, ...file }));
  }
}
