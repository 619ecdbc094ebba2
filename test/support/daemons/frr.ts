import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../wait.ts';
import { addresses, type Link } from './network.ts';

/** FRR's bgpd in the host `them`, without zebra, with one neighbour per family. */
export class Frr {
  readonly #directory: string;
  #child: ChildProcess | undefined;

  constructor(private readonly link: Link) {
    this.#directory = join(link.directory, 'frr');
    mkdirSync(this.#directory, { mode: 0o777 });
  }

  /** @param lines more of `router bgp` */
  async start(asn: number, peerAsn: number, routes: readonly string[], lines = ''): Promise<void> {
    const file = join(this.#directory, 'bgpd.conf');
    writeFileSync(file, configuration(asn, peerAsn, routes, lines));
    const pid = join(this.#directory, 'bgpd.pid');
    // -S: stay root; -Z: no zebra.
    const args = ['-S', '-Z', '-f', file, '-i', pid, '-P', '0', '--vty_socket', this.#directory, '--log', 'stdout'];
    this.#child = this.link.spawn('them', 'frr', '/usr/lib/frr/bgpd', args);
    await until(() => this.show('show bgp summary json'), { within: 15_000, what: 'FRR answers' });
  }

  async kill(): Promise<void> {
    if (this.#child) await this.link.kill(this.#child);
  }

  show(...commands: readonly string[]): Promise<string> {
    const args = commands.flatMap((command) => ['-c', command]);
    return this.link.exec('them', 'vtysh', ['--vty_socket', this.#directory, ...args]);
  }

  /** FRR's JSON of a prefix; undefined when it has none. */
  async route(prefix: string): Promise<FrrRoute | undefined> {
    const family = prefix.includes(':') ? 'ipv6' : 'ipv4';
    const found: FrrRoute = JSON.parse(await this.show(`show bgp ${family} unicast ${prefix} json`));
    return found.paths ? found : undefined;
  }

  async learnt(prefix: string): Promise<FrrRoute> {
    return until(() => this.route(prefix), { within: 30_000, what: `${prefix} in FRR` });
  }

  async forgotten(prefix: string): Promise<void> {
    await until(async () => (await this.route(prefix)) === undefined, {
      within: 30_000,
      what: `${prefix} gone from FRR`,
    });
  }
}

export interface FrrRoute {
  readonly paths: readonly {
    readonly aspath: { readonly string: string };
    readonly origin: string;
    readonly nexthops: readonly { readonly ip: string }[];
  }[];
}

function configuration(asn: number, peerAsn: number, routes: readonly string[], lines: string): string {
  const networks = (six: boolean) =>
    routes
      .filter((route) => route.includes(':') === six)
      .map((route) => `  network ${route}`)
      .join('\n');
  return `router bgp ${asn}
 bgp router-id ${addresses.them.four}
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
${lines}
 neighbor ${addresses.us.four} remote-as ${peerAsn}
 neighbor ${addresses.us.four} timers connect 1
 neighbor ${addresses.us.four} disable-connected-check
 neighbor ${addresses.us.six} remote-as ${peerAsn}
 neighbor ${addresses.us.six} timers connect 1
 neighbor ${addresses.us.six} disable-connected-check
 address-family ipv4 unicast
${networks(false)}
  neighbor ${addresses.us.four} activate
  no neighbor ${addresses.us.six} activate
 exit-address-family
 address-family ipv6 unicast
${networks(true)}
  neighbor ${addresses.us.six} activate
 exit-address-family
`;
}
