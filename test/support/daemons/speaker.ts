import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RouteStatus } from '../../../src/bgp/control.ts';
import type { PeerStatus } from '../../../src/bgp/peer.ts';
import type { PeerConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';
import type { FeedMessage } from '../../../src/model/feed.ts';
import { until } from '../wait.ts';
import { bundled } from './bundle.ts';
import { addresses, type Link } from './network.ts';
import type { SpeakerFile } from './speaker-main.ts';

/** Our speaker as a process of its own in the host `us`. */
export class SpeakerProcess {
  readonly #program: string;
  readonly #file: string;
  #child: ChildProcess | undefined;

  constructor(private readonly link: Link) {
    this.#program = bundled('speaker-main.ts');
    this.#file = join(link.directory, 'speaker.json');
  }

  start(config: SpeakerConfig, options: Partial<SpeakerFile> = {}): void {
    this.#write(config, options);
    this.#child = this.link.spawn('us', 'speaker', process.execPath, [this.#program, this.#file, this.link.directory]);
  }

  apply(config: SpeakerConfig): void {
    this.#write(config);
    this.#child?.kill('SIGHUP');
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child) await this.link.kill(this.#child, signal);
  }

  get output(): string {
    return this.link.output('speaker');
  }

  async peers(): Promise<PeerStatus[]> {
    return ((await this.#get('/v1/peers')) as { peers: PeerStatus[] }).peers;
  }

  async routes(): Promise<RouteStatus[]> {
    return ((await this.#get('/v1/routes')) as { routes: RouteStatus[] }).routes;
  }

  /** Waits until every peer is up, or all peers with these names. */
  async established(...names: readonly string[]): Promise<PeerStatus[]> {
    return until(
      async () => {
        const peers = await this.peers();
        const wanted = names.length > 0 ? peers.filter(({ name }) => names.includes(name)) : peers;
        return wanted.length > 0 && wanted.every(({ state }) => state === 'Established') ? wanted : undefined;
      },
      { within: 60_000, what: `session established; our log:\n${this.#tail()}` },
    );
  }

  /** Waits until a prefix has a learnt route, and returns it. */
  async learnt(prefix: string): Promise<RouteStatus> {
    return until(async () => (await this.routes()).find((route) => route.prefix === prefix), {
      within: 30_000,
      what: `route to ${prefix}`,
    });
  }

  async forgotten(prefix: string): Promise<void> {
    await until(async () => !(await this.routes()).some((route) => route.prefix === prefix), {
      within: 30_000,
      what: `${prefix} withdrawn`,
    });
  }

  /** The route feed up to its end of snapshot. */
  async feed(): Promise<FeedMessage[]> {
    await until(() => this.peers(), { within: 20_000, what: 'our control socket' });
    const socket = connect(join(this.link.directory, 'routes.sock'));
    const messages: FeedMessage[] = [];
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      createInterface({ input: socket }).on('line', (line) => {
        const message: FeedMessage = JSON.parse(line);
        messages.push(message);
        if (message.type !== 'endOfSnapshot') return;
        socket.destroy();
        resolve(messages);
      });
    });
  }

  #tail(): string {
    return this.#child ? this.output.split('\n').slice(-15).join('\n') : '';
  }

  #write(config: SpeakerConfig, options: Partial<SpeakerFile> = {}): void {
    const file: SpeakerFile = { config, restarted: false, deferralSeconds: 20, ...options };
    writeFileSync(this.#file, JSON.stringify(file));
  }

  #get(path: string): Promise<unknown> {
    return getJson(join(this.link.directory, 'bgp.sock'), path);
  }
}

/** GET over a unix socket. */
export function getJson(socketPath: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(JSON.parse(text)));
    });
    call.on('error', reject);
    call.end();
  });
}

/** A session with the host `them` over the family's address. */
export function peerOf(family: 4 | 6, asn: number, extra: Partial<PeerConfig> = {}): PeerConfig {
  const key = family === 4 ? 'four' : 'six';
  return {
    name: `them-${family}`,
    role: 'peer',
    address: parseIp(addresses.them[key]),
    port: 179,
    asn,
    families: [family],
    localAddress: parseIp(addresses.us[key]),
    initiative: 'dial',
    holdSeconds: 90,
    restartSeconds: 60,
    acceptDefault: false,
    nextHopMode: 'auto',
    ...extra,
  };
}

/** The host `us` with these peers and originations. */
export function configOf(asn: number, peers: readonly PeerConfig[], originations: readonly string[]): SpeakerConfig {
  return {
    asn,
    identifier: parseIp(addresses.us.four),
    listenPort: 179,
    addresses: [
      { address: parseIp(addresses.us.four), subnet: parseCidr(`${addresses.us.four}/24`) },
      { address: parseIp(addresses.us.six), subnet: parseCidr(`${addresses.us.six}/64`) },
    ],
    peers,
    originations: originations.map((prefix): Cidr => parseCidr(prefix)),
  };
}
