import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../wait.ts';
import type { Link } from './network.ts';

/* BIRD, FRR and GoBGP behind one face: several of them in the host `them`, each with an address of its own. */

export type Kind = 'bird' | 'frr' | 'gobgp';
export const kinds: readonly Kind[] = ['bird', 'frr', 'gobgp'];

/** A prefix that a router announces, with communities as `65010:7`, `rt 65010:7` and `65010:1:2`. */
export interface Announced {
  readonly prefix: string;
  readonly communities?: readonly string[];
  readonly routeTargets?: readonly string[];
  readonly large?: readonly string[];
}

export interface RouterOptions {
  readonly address: string;
  readonly asn: number;
  readonly neighbors: readonly {
    readonly address: string;
    readonly asn: number;
    /** Of the router as a reflector. */
    readonly client?: boolean;
  }[];
  readonly announced: readonly Announced[];
  /** Gets NO_ADVERTISE on its way out; whoever has it on a route of its own does not tell the route at all. */
  readonly secret?: string;
  /** Only one of the host listens. */
  readonly listens?: boolean;
}

/** A route as a router has it. */
export interface Seen {
  readonly path: string;
  readonly nextHop: string;
  readonly communities: readonly string[];
  readonly routeTargets: readonly string[];
  readonly large: readonly string[];
  readonly originator?: string;
  readonly clusters?: readonly string[];
}

export interface Router {
  start(): Promise<void>;
  /** The best route to the prefix; undefined when there is none. */
  route(prefix: string): Promise<Seen | undefined>;
}

export function routerOf(kind: Kind, link: Link, options: RouterOptions): Router {
  switch (kind) {
    case 'bird':
      return new BirdOf(link, options);
    case 'frr':
      return new FrrOf(link, options);
    case 'gobgp':
      return new GoBgpOf(link, options);
  }
}

export async function learnt(router: Router, prefix: string): Promise<Seen> {
  return until(() => router.route(prefix), { within: 40_000, what: `${prefix} in ${router.constructor.name}` });
}

class BirdOf implements Router {
  readonly #socket: string;

  constructor(
    private readonly link: Link,
    private readonly options: RouterOptions,
  ) {
    this.#socket = join(link.directory, `bird-${options.address}.ctl`);
  }

  async start(): Promise<void> {
    const file = join(this.link.directory, `bird-${this.options.address}.conf`);
    writeFileSync(file, birdConfiguration(this.options));
    this.link.spawn('them', 'trio-bird', 'bird', ['-f', '-c', file, '-s', this.#socket]);
    await until(() => this.#ask('show status'), { within: 15_000, what: 'BIRD answers' });
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const text = await this.#ask(`show route all ${prefix}`);
    const field = (name: string) => new RegExp(`${name}: (.*)`).exec(text)?.[1] ?? '';
    if (!text.includes('BGP.as_path')) return undefined;
    const originator = field('BGP.originator_id');
    const groups = (name: string) =>
      [...field(name).matchAll(/\(([^)]*)\)/g)].map(([, inner = '']) =>
        inner.replace(/^rt, /, '').replace(/, ?/g, ':'),
      );
    return {
      path: field('BGP.as_path').trim(),
      nextHop: field('BGP.next_hop'),
      communities: groups('BGP.community'),
      routeTargets: groups('BGP.ext_community'),
      large: groups('BGP.large_community'),
      ...(originator ? { originator, clusters: field('BGP.cluster_list').trim().split(' ') } : {}),
    };
  }

  async #ask(command: string): Promise<string> {
    try {
      return await this.link.exec('them', 'birdc', ['-s', this.#socket, ...command.split(' ')]);
    } catch (thrown) {
      // That a prefix is unknown is an answer too, although birdc then fails.
      const answer = thrown instanceof Error && 'stdout' in thrown ? String(thrown.stdout) : '';
      if (!answer.includes('ready.')) throw thrown;
      return answer;
    }
  }
}

function birdConfiguration({ address, asn, neighbors, announced, secret }: RouterOptions): string {
  const hush = secret ? `if net = ${secret} then bgp_community.add((65535, 65282));` : '';
  const comma = (text: string) => text.replaceAll(':', ', ');
  const routes = announced.map(({ prefix, communities = [], routeTargets = [], large = [] }) => {
    const marks = [
      ...communities.map((mark) => `bgp_community.add((${comma(mark)}));`),
      ...routeTargets.map((mark) => `bgp_ext_community.add((rt, ${comma(mark)}));`),
      ...large.map((mark) => `bgp_large_community.add((${comma(mark)}));`),
    ];
    return `route ${prefix} blackhole { ${marks.join(' ')} };`;
  });
  const sessions = neighbors.map(
    (neighbor, i) => `protocol bgp n${i} {
  local ${address} as ${asn};
  neighbor ${neighbor.address} as ${neighbor.asn};
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  ${neighbor.client ? `rr client; rr cluster id ${address};` : ''}
  ipv4 { import all; export filter { ${hush} if source = RTS_STATIC || source = RTS_BGP then accept; reject; }; };
}`,
  );
  return `router id ${address};
protocol device { }
protocol direct { ipv4; interface "eth0"; }
protocol static { ipv4; ${routes.join('\n')} }
${sessions.join('\n')}
`;
}

class FrrOf implements Router {
  readonly #directory: string;

  constructor(
    private readonly link: Link,
    private readonly options: RouterOptions,
  ) {
    this.#directory = join(link.directory, `frr-${options.address}`);
    mkdirSync(this.#directory);
    chmodSync(this.#directory, 0o777);
  }

  async start(): Promise<void> {
    const file = join(this.#directory, 'bgpd.conf');
    writeFileSync(file, frrConfiguration(this.options));
    const place = ['-f', file, '-i', join(this.#directory, 'bgpd.pid'), '--vty_socket', this.#directory];
    const port = this.options.listens ? '179' : '0';
    const args = ['-S', '-Z', '-P', '0', '-p', port, '--log', 'stdout', ...place];
    this.link.spawn('them', 'trio-frr', '/usr/lib/frr/bgpd', args);
    await until(() => this.#show('show bgp summary json'), { within: 15_000, what: 'FRR answers' });
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const { paths = [] }: { paths?: FrrPath[] } = JSON.parse(await this.#show(`show bgp ipv4 unicast ${prefix} json`));
    const path = paths.find(({ peer, valid }) => peer?.peerId !== '0.0.0.0' && valid !== false);
    if (!path) return undefined;
    const list = (text: { string: string } | undefined) => text?.string.split(' ') ?? [];
    return {
      path: path.aspath.string.replace('Local', ''),
      nextHop: path.nexthops[0]?.ip ?? '',
      communities: list(path.community),
      routeTargets: list(path.extendedCommunity).map((mark) => mark.replace('RT:', '')),
      large: list(path.largeCommunity),
      ...(path.originatorId ? { originator: path.originatorId, clusters: path.clusterList?.list ?? [] } : {}),
    };
  }

  #show(command: string): Promise<string> {
    return this.link.exec('them', 'vtysh', ['--vty_socket', this.#directory, '-c', command]);
  }
}

interface FrrPath {
  readonly valid?: boolean;
  readonly peer?: { readonly peerId: string };
  readonly aspath: { readonly string: string };
  readonly nexthops: readonly { readonly ip: string }[];
  readonly community?: { readonly string: string };
  readonly extendedCommunity?: { readonly string: string };
  readonly largeCommunity?: { readonly string: string };
  readonly originatorId?: string;
  readonly clusterList?: { readonly list: readonly string[] };
}

function frrConfiguration({ address, asn, neighbors, announced, secret }: RouterOptions): string {
  const named = (mark: string) =>
    mark === '65535:65281' ? 'no-export' : mark === '65535:65282' ? 'no-advertise' : mark;
  const maps = announced.map(
    ({ communities = [], routeTargets = [], large = [] }, i) => `route-map r${i} permit 10
${communities.length > 0 ? ` set community ${communities.map(named).join(' ')}` : ''}
${routeTargets.length > 0 ? ` set extcommunity rt ${routeTargets.join(' ')}` : ''}
${large.length > 0 ? ` set large-community ${large.join(' ')}` : ''}
exit`,
  );
  const sessions = neighbors.map(
    (neighbor) => ` neighbor ${neighbor.address} remote-as ${neighbor.asn}
 neighbor ${neighbor.address} update-source ${address}
 neighbor ${neighbor.address} timers connect 1
 neighbor ${neighbor.address} disable-connected-check`,
  );
  const clients = neighbors.filter(({ client }) => client);
  const hush = secret
    ? `ip prefix-list secret permit ${secret}
route-map hush permit 10
 match ip address prefix-list secret
 set community no-advertise additive
exit
route-map hush permit 20
exit`
    : '';
  const hushed = secret ? neighbors.map((neighbor) => `  neighbor ${neighbor.address} route-map hush out`) : [];
  return `${maps.join('\n')}
${hush}
router bgp ${asn}
 bgp router-id ${address}
 no bgp ebgp-requires-policy
 no bgp network import-check
${clients.length > 0 ? ` bgp cluster-id ${address}` : ''}
${sessions.join('\n')}
 address-family ipv4 unicast
${announced.map(({ prefix }, i) => `  network ${prefix} route-map r${i}`).join('\n')}
${clients.map((neighbor) => `  neighbor ${neighbor.address} route-reflector-client`).join('\n')}
${hushed.join('\n')}
 exit-address-family
`;
}

class GoBgpOf implements Router {
  constructor(
    private readonly link: Link,
    private readonly options: RouterOptions,
  ) {}

  async start(): Promise<void> {
    const file = join(this.link.directory, `gobgp-${this.options.address}.json`);
    writeFileSync(file, JSON.stringify(goBgpConfiguration(this.options)));
    const args = ['-f', file, '-t', 'json', '--pprof-disable', '--api-hosts', '127.0.0.1:50051'];
    this.link.spawn('them', 'trio-gobgp', 'gobgpd', args);
    await until(() => this.#ask('global'), { within: 15_000, what: 'GoBGP answers' });
    for (const { prefix, communities = [], routeTargets = [], large = [] } of this.options.announced) {
      const lists = [
        ...(communities.length > 0 ? ['community', communities.join(',')] : []),
        ...(routeTargets.length > 0 ? ['rt', routeTargets.join(',')] : []),
        ...(large.length > 0 ? ['large-community', large.join(',')] : []),
      ];
      await this.#ask('global', 'rib', 'add', prefix, ...lists, '-a', 'ipv4');
    }
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const table: Record<string, GoBgpPath[]> = JSON.parse(
      (await this.#ask('global', 'rib', '-a', 'ipv4', '-j')) || '{}',
    );
    const path = table[prefix]?.find((candidate) => candidate['source-id'] !== undefined || candidate.best);
    const attribute = (type: number) => path?.attrs.find((candidate) => candidate.type === type);
    if (!path) return undefined;
    const standard = attribute(8)?.communities ?? [];
    const originator = attribute(9)?.value;
    return {
      path: (attribute(2)?.as_paths ?? []).flatMap(({ asns }) => asns).join(' '),
      nextHop: attribute(3)?.nexthop ?? '',
      communities: standard.map((value) => `${value >>> 16}:${value & 0xffff}`),
      routeTargets: listOf(attribute(16)?.value).map((item) => String(item['value'])),
      large: listOf(attribute(32)?.value).map((item) =>
        [item['ASN'], item['LocalData1'], item['LocalData2']].join(':'),
      ),
      ...(typeof originator === 'string' ? { originator, clusters: (attribute(10)?.value ?? []) as string[] } : {}),
    };
  }

  #ask(...args: readonly string[]): Promise<string> {
    return this.link.exec('them', 'gobgp', args);
  }
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value : [];
}

interface GoBgpPath {
  readonly best?: boolean;
  readonly 'source-id'?: string;
  readonly attrs: readonly {
    readonly type: number;
    readonly value?: unknown;
    readonly nexthop?: string;
    readonly communities?: readonly number[];
    readonly as_paths?: readonly { readonly asns: readonly number[] }[];
  }[];
}

/** NO_ADVERTISE on what is told of the prefix. */
function goBgpHush(secret: string): object {
  const list = { 'set-community-method': { 'communities-list': ['65535:65282'] }, options: 'add' };
  const actions = { 'bgp-actions': { 'set-community': list }, 'route-disposition': 'accept-route' };
  const conditions = { 'match-prefix-set': { 'prefix-set': 'secret' } };
  return {
    'defined-sets': { 'prefix-sets': [{ 'prefix-set-name': 'secret', 'prefix-list': [{ 'ip-prefix': secret }] }] },
    'policy-definitions': [{ name: 'hush', statements: [{ name: 'hush', conditions, actions }] }],
  };
}

function goBgpConfiguration({ address, asn, neighbors, secret, listens = false }: RouterOptions): object {
  const policy = { 'export-policy-list': ['hush'], 'default-export-policy': 'accept-route' };
  return {
    global: {
      config: { as: asn, 'router-id': address, port: listens ? 179 : -1 },
      ...(secret ? { 'apply-policy': { config: policy } } : {}),
    },
    ...(secret ? goBgpHush(secret) : {}),
    neighbors: neighbors.map((neighbor) => ({
      config: { 'neighbor-address': neighbor.address, 'peer-as': neighbor.asn },
      transport: { config: { 'local-address': address } },
      timers: { config: { 'connect-retry': 1, 'idle-hold-time-after-reset': 1 } },
      ...(neighbor.client
        ? { 'route-reflector': { config: { 'route-reflector-client': true, 'route-reflector-cluster-id': address } } }
        : {}),
      'afi-safis': [{ config: { 'afi-safi-name': 'ipv4-unicast' } }],
    })),
  };
}
