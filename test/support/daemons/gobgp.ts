import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../wait.ts';
import { addresses, type Link } from './network.ts';

export interface GoBgpOptions {
  /** Says in its OPEN that it has restarted. */
  readonly restarted?: boolean;
  /** More of each neighbour's configuration, and of its address family's. */
  readonly neighbor?: object;
  readonly family?: object;
}

/** GoBGP in the host `them`, with one neighbour per family. */
export class GoBgp {
  #child: ChildProcess | undefined;

  constructor(private readonly link: Link) {}

  async start(asn: number, peerAsn: number, routes: readonly string[], options: GoBgpOptions = {}): Promise<void> {
    await this.startWith(configuration(asn, peerAsn, options), options.restarted ? ['-r'] : []);
    for (const route of routes) await this.announce(route);
  }

  /** With a whole configuration of the test's own. */
  async startWith(configured: object, more: readonly string[] = []): Promise<void> {
    const file = join(this.link.directory, 'gobgp.json');
    writeFileSync(file, JSON.stringify(configured));
    const args = ['-f', file, '-t', 'json', '--pprof-disable', '--api-hosts', '127.0.0.1:50051', ...more];
    this.#child = this.link.spawn('them', 'gobgp', 'gobgpd', args);
    await until(() => this.ask('global'), { within: 15_000, what: 'GoBGP answers' });
  }

  async kill(): Promise<void> {
    if (this.#child) await this.link.kill(this.#child);
  }

  ask(...args: readonly string[]): Promise<string> {
    return this.link.exec('them', 'gobgp', args);
  }

  announce(prefix: string): Promise<string> {
    return this.ask('global', 'rib', 'add', prefix, 'community', '65010:7', '-a', familyOf(prefix));
  }

  withdraw(prefix: string): Promise<string> {
    return this.ask('global', 'rib', 'del', prefix, '-a', familyOf(prefix));
  }

  /** GoBGP's line for a prefix that we told, or the empty text. */
  async route(prefix: string): Promise<string> {
    const table = await this.ask('global', 'rib', '-a', familyOf(prefix));
    return table.split('\n').find((line) => line.includes(`${prefix} `)) ?? '';
  }

  async learnt(prefix: string): Promise<string> {
    return until(async () => (await this.route(prefix)) || undefined, { within: 30_000, what: `${prefix} in GoBGP` });
  }

  async forgotten(prefix: string): Promise<void> {
    await until(async () => (await this.route(prefix)) === '', { within: 30_000, what: `${prefix} gone from GoBGP` });
  }
}

function familyOf(prefix: string): string {
  return prefix.includes(':') ? 'ipv6' : 'ipv4';
}

function configuration(asn: number, peerAsn: number, { neighbor = {}, family: more = {} }: GoBgpOptions): object {
  const neighbour = (address: string, family: string) => ({
    ...neighbor,
    config: {
      'neighbor-address': address,
      'peer-as': peerAsn,
      ...('config' in neighbor ? Object(neighbor.config) : {}),
    },
    timers: { config: { 'connect-retry': 1, 'idle-hold-time-after-reset': 1 } },
    'graceful-restart': { config: { enabled: true, 'restart-time': 60 } },
    ...('graceful-restart' in neighbor ? { 'graceful-restart': neighbor['graceful-restart'] } : {}),
    'afi-safis': [
      {
        config: { 'afi-safi-name': family },
        'mp-graceful-restart': { config: { enabled: true } },
        ...more,
      },
    ],
  });
  return {
    global: { config: { as: asn, 'router-id': addresses.them.four } },
    neighbors: [neighbour(addresses.us.four, 'ipv4-unicast'), neighbour(addresses.us.six, 'ipv6-unicast')],
  };
}
