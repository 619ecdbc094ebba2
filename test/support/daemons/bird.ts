import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../wait.ts';
import { addresses, type Link } from './network.ts';

export interface BirdOptions {
  readonly asn: number;
  readonly peerAsn: number;
  /** Prefixes that BIRD announces. */
  readonly routes: readonly string[];
  /** Lines for the BGP protocol, such as `passive on;`. */
  readonly protocol?: string;
  /** Whole protocols beside it. */
  readonly extra?: string;
  /** Options of both channels in place of `next hop self;`. */
  readonly channel?: string;
  /** Statements for a route on its way out, such as `bgp_path.prepend(64512);`. */
  readonly exporting?: string;
}

/** BIRD 2 in the host `them`, with one session per family: `us4` and `us6`. */
export class Bird {
  readonly #configuration: string;
  readonly #socket: string;
  #child: ChildProcess | undefined;

  constructor(private readonly link: Link) {
    this.#configuration = join(link.directory, 'bird.conf');
    this.#socket = join(link.directory, 'bird.ctl');
  }

  /** @param recover start as after a crash, with graceful restart recovery */
  async start(options: BirdOptions, recover = false): Promise<void> {
    this.#write(options);
    const args = ['-f', '-c', this.#configuration, '-s', this.#socket, ...(recover ? ['-R'] : [])];
    this.#child = this.link.spawn('them', 'bird', 'bird', args);
    await until(() => this.ask('show status'), { within: 10_000, what: 'BIRD answers' });
  }

  async reconfigure(options: BirdOptions): Promise<void> {
    this.#write(options);
    await this.ask('configure');
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child) await this.link.kill(this.#child, signal);
  }

  /** BIRD's answer; one that says that a prefix is unknown is an answer too, although birdc then fails. */
  async ask(command: string): Promise<string> {
    try {
      return await this.link.exec('them', 'birdc', ['-s', this.#socket, ...command.split(' ')]);
    } catch (thrown) {
      const answer = thrown instanceof Error && 'stdout' in thrown ? String(thrown.stdout) : '';
      if (!answer.includes('ready.')) throw thrown;
      return answer;
    }
  }

  /** What BIRD knows of a prefix from us, with all attributes; empty when nothing. */
  async route(prefix: string): Promise<string> {
    const text = await this.ask(`show route all ${prefix}`);
    return text.includes('BGP.as_path') ? text : '';
  }

  async learnt(prefix: string): Promise<string> {
    return until(async () => (await this.route(prefix)) || undefined, { within: 30_000, what: `${prefix} in BIRD` });
  }

  async forgotten(prefix: string): Promise<void> {
    await until(async () => (await this.route(prefix)) === '', { within: 30_000, what: `${prefix} gone from BIRD` });
  }

  #write(options: BirdOptions): void {
    writeFileSync(this.#configuration, configuration(options));
  }
}

function configuration({
  asn,
  peerAsn,
  routes,
  protocol = '',
  extra = '',
  exporting = '',
  channel = 'next hop self;',
}: BirdOptions): string {
  const statics = (six: boolean) =>
    routes
      .filter((route) => route.includes(':') === six)
      .map((route) => `route ${route} blackhole;`)
      .join('\n  ');
  const session = (name: string, local: string, remote: string, family: string) => `
protocol bgp ${name} {
  local ${local} as ${asn};
  neighbor ${remote} as ${peerAsn};
  graceful restart on;
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  ${protocol}
  ${family} { import all; export filter { if source != RTS_STATIC then reject; ${exporting} accept; }; ${channel} };
}`;
  return `router id ${addresses.them.four};
graceful restart wait 30;
protocol device { }
protocol static s4 { ipv4; ${statics(false)} }
protocol static s6 { ipv6; ${statics(true)} }
${session('us4', addresses.them.four, addresses.us.four, 'ipv4')}
${session('us6', addresses.them.six, addresses.us.six, 'ipv6')}
${extra}
`;
}
