import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EnvironmentError, InputError } from '../../src/base/errors.ts';
import { ask } from '../../src/cli/control.ts';
import { run } from '../../src/lab/run.ts';
import { asn, dutAddress, port, senderAddress } from './topology.ts';

/** Where the built programs are. */
export interface Programs {
  /** Command line of `margay`. */
  readonly margay: readonly string[];
  /** bench/bgp/tester, built. */
  readonly tester: string;
}

/** What a device under test is started with. */
export interface DutSetup extends Programs {
  /** An empty directory of its own. */
  readonly directory: string;
  /** Addresses of all its peers: reflector clients in the same AS, who connect to it. */
  readonly peers: readonly string[];
}

/** A device under test: a route reflector of IPv4 unicast without policy, which installs nothing in the kernel. */
export interface Dut {
  readonly title: string;
  /** Absent: always there. */
  readonly installed?: { readonly file: string; readonly package: string };
  /** Arguments that make `installed.file` tell its version. */
  readonly version?: readonly string[];
  /** Not a speaker: tells no routes that came before the peer. */
  readonly relays?: true;
  /** Milliseconds for which it answered nobody at the longest, where it tells. */
  longestPause?(setup: DutSetup): Promise<number>;
  /** Writes its configuration and gives the command line, which stays in the foreground. */
  command(setup: DutSetup): readonly string[];
}

export type DutId = 'margay' | 'bird' | 'frr' | 'gobgp' | 'openbgpd' | 'wire';

export const duts: Readonly<Record<DutId, Dut>> = {
  margay: { title: 'Margay', command: margay, longestPause },
  bird: {
    title: 'BIRD',
    installed: { file: '/usr/sbin/bird', package: 'bird2' },
    version: ['--version'],
    command: bird,
  },
  frr: { title: 'FRR', installed: { file: '/usr/lib/frr/bgpd', package: 'frr' }, version: ['--version'], command: frr },
  gobgp: {
    title: 'GoBGP',
    installed: { file: '/usr/bin/gobgpd', package: 'gobgpd' },
    version: ['--version'],
    command: gobgp,
  },
  openbgpd: {
    title: 'OpenBGPD',
    installed: { file: '/usr/sbin/bgpd', package: 'openbgpd' },
    version: ['-V'],
    command: openbgpd,
  },
  wire: { title: 'wire', relays: true, command: wire },
};

/** All, ours first. */
export const dutIds = Object.keys(duts) as DutId[];

function isDutId(text: string): text is DutId {
  return Object.hasOwn(duts, text);
}

/** The value of `--duts`: a comma list; ours is always one of them. @throws InputError */
export function parseDuts(text: string): DutId[] {
  const names = text.split(',').map((name) => name.trim());
  for (const name of names) if (!isDutId(name)) throw new InputError('--duts', name, `some of ${dutIds.join(',')}`);
  return dutIds.filter((id) => id === 'margay' || names.includes(id));
}

/**
 * Those that this machine has. Without a choice, `tell` learns of each that is left out.
 * @throws EnvironmentError when one that was chosen is missing
 */
export function installedDuts(
  chosen: readonly DutId[] | undefined,
  tell: (line: string) => void,
  exists: (file: string) => boolean = existsSync,
): DutId[] {
  return (chosen ?? dutIds).filter((id) => {
    const { title, installed } = duts[id];
    if (!installed || exists(installed.file)) return true;
    if (chosen) throw new EnvironmentError(`${title} is not installed`, `apt-get install ${installed.package}`);
    tell(`${title} is left out: ${installed.file} is missing (apt-get install ${installed.package})`);
    return false;
  });
}

/** Title and version of each that is a program of its own. */
export async function versionsOf(ids: readonly DutId[]): Promise<string[]> {
  const known: string[] = [];
  for (const id of ids) {
    const { title, installed, version } = duts[id];
    if (!installed || !version) continue;
    // Some tell it on standard error.
    const text = await run('sh', ['-c', `"$0" "$@" 2>&1`, installed.file, ...version]);
    known.push(`${title} ${/\d+(\.\d+)+/.exec(text)?.[0] ?? 'of unknown version'}`);
  }
  return known;
}

/** Of all sessions. */
const holdSeconds = 180;

function written({ directory }: DutSetup, name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

function margay(setup: DutSetup): readonly string[] {
  const neighbors = setup.peers.map((address) => ({
    address,
    asn,
    passive: true,
    families: ['ipv4'],
    holdSeconds,
    routeReflectorClient: true,
  }));
  // JSON is YAML.
  const file = JSON.stringify({
    asn,
    routerId: dutAddress,
    clusterId: dutAddress,
    listen: { port, addresses: [dutAddress] },
    addresses: [`${dutAddress}/16`],
    control: join(setup.directory, 'bgp.sock'),
    neighbors,
  });
  return [...setup.margay, 'bgp', '--config', written(setup, 'margay.yaml', file)];
}

async function longestPause({ directory }: DutSetup): Promise<number> {
  const status = (await ask(directory, 'bgp', '/v1/status')) as { longestPauseMilliseconds: number };
  return status.longestPauseMilliseconds;
}

function bird(setup: DutSetup): readonly string[] {
  const neighbours = setup.peers.map(
    (peer, i) => `protocol bgp reflected${i} from reflected { neighbor ${peer} as ${asn}; }\n`,
  );
  const text = `log stderr { warning, error, fatal, bug };
router id ${dutAddress};
protocol device { }
protocol direct { ipv4; }
template bgp reflected {
  local ${dutAddress} as ${asn};
  hold time ${holdSeconds};
  passive on;
  rr client;
  rr cluster id ${dutAddress};
  ipv4 { import all; export where source = RTS_BGP; };
}
${neighbours.join('')}`;
  const { directory } = setup;
  return ['bird', '-f', '-c', written(setup, 'bird.conf', text), '-s', join(directory, 'bird.ctl')];
}

/** Without zebra: every next hop counts as reachable. */
function frr(setup: DutSetup): readonly string[] {
  const text = `router bgp ${asn}
 bgp router-id ${dutAddress}
 bgp cluster-id ${dutAddress}
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor clients peer-group
 neighbor clients remote-as ${asn}
 neighbor clients passive
 neighbor clients timers 60 ${holdSeconds}
${setup.peers.map((peer) => ` neighbor ${peer} peer-group clients\n`).join('')} address-family ipv4 unicast
  neighbor clients activate
  neighbor clients route-reflector-client
 exit-address-family
`;
  const { directory } = setup;
  const files = ['-f', written(setup, 'bgpd.conf', text), '-i', join(directory, 'pid'), '--vty_socket', directory];
  // -n: no kernel routes; -Z: no zebra; -S: stay root; -P 0: no telnet.
  return ['/usr/lib/frr/bgpd', '-n', '-Z', '-S', '-P', '0', '-l', dutAddress, '-p', String(port), ...files];
}

function gobgp(setup: DutSetup): readonly string[] {
  const neighbors = setup.peers.map((peer) => ({
    config: { 'neighbor-address': peer, 'peer-as': asn },
    transport: { config: { 'passive-mode': true, 'local-address': dutAddress } },
    timers: { config: { 'hold-time': holdSeconds } },
    'route-reflector': {
      config: { 'route-reflector-client': true, 'route-reflector-cluster-id': dutAddress },
    },
    'afi-safis': [{ config: { 'afi-safi-name': 'ipv4-unicast' } }],
  }));
  const config = { as: asn, 'router-id': dutAddress, port, 'local-address-list': [dutAddress] };
  const file = written(setup, 'gobgp.json', JSON.stringify({ global: { config }, neighbors }));
  return ['gobgpd', '-f', file, '-t', 'json', '-l', 'warn', '--pprof-disable', '--api-hosts', '127.0.0.1:50051'];
}

/** Where its processes lock themselves in; made by its service's unit, which does not run here. */
const openbgpdRoot = '/run/openbgpd';

function openbgpd(setup: DutSetup): readonly string[] {
  const text = `AS ${asn}
router-id ${dutAddress}
fib-update no
listen on ${dutAddress} port ${port}
socket "${join(setup.directory, 'control')}"
holdtime ${holdSeconds}
group clients {
  remote-as ${asn}
  local-address ${dutAddress}
  passive
  route-reflector ${dutAddress}
  announce IPv4 unicast
${setup.peers.map((peer) => `  neighbor ${peer}\n`).join('')}}
allow from any
allow to any
`;
  mkdirSync(openbgpdRoot, { recursive: true });
  chmodSync(openbgpdRoot, 0o755);
  return ['/usr/sbin/bgpd', '-d', '-f', written(setup, 'bgpd.conf', text)];
}

/** The harness alone: octets of the sender go to every receiver as they come. */
function wire({ tester }: DutSetup): readonly string[] {
  return [tester, 'relay', dutAddress, String(port), senderAddress, String(asn)];
}
