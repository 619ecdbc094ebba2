import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { access, constants, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { explain } from '../../base/errors.ts';
import type { PeerStatus } from '../../bgp/peer-status.ts';
import type { FelixStatus } from '../../felix/status.ts';
import { audit } from '../../ipam/audit.ts';
import { readLists } from '../../ipam/audit-index.ts';
import { poolUsage } from '../../ipam/audit-usage.ts';
import { runCommand } from '../../kernel/command.ts';
import type { Backend } from '../../kernel/iptables/backend.ts';
import { openNetlink } from '../../kernel/rtnetlink/driver.ts';
import { readSysctl } from '../../kernel/sysctl.ts';
import { KernelError } from '../../kernel/types.ts';
import type { Deps } from '../apply.ts';
import { cniQueueDir, type Environment, nodename, runDir } from '../environment.ts';
import { answerOf, type BgpStatus } from '../local.ts';
import type { ClusterFacts, CniFacts, DiskFacts, Facts, Known, NetworkFacts, RuleCounts } from './facts.ts';
import { readProcesses } from './processes.ts';

/** Where a container runtime looks. */
export interface CniDirectories {
  readonly confDir: string;
  readonly binDir: string;
}

/** An address younger than this is no leak. */
const graceSeconds = 60;

/** Looks at everything; what cannot be seen is unknown, and says why. Changes nothing. */
export async function gather(
  env: Environment,
  withStore: (action: (deps: Deps) => Promise<ClusterFacts>) => Promise<ClusterFacts>,
  directories: CniDirectories,
): Promise<Facts> {
  const directory = runDir(env);
  const [felix, bgp, peers, cluster, firewall, disks] = await Promise.all([
    answerOf<FelixStatus>(directory, 'felix', '/v1/status'),
    answerOf<BgpStatus>(directory, 'bgp', '/v1/status'),
    answerOf<{ peers: PeerStatus[] }>(directory, 'bgp', '/v1/peers'),
    look(() => withStore(readCluster)),
    look(readFirewall),
    look(() => readDisks([directory, cniQueueDir(env)])),
  ]);
  return {
    node: nodename(env),
    now: new Date(),
    felix,
    bgp,
    peers: peers.running ? peers.status.peers : [],
    cluster,
    network: await look(readNetwork),
    sysctls: await look(readSysctls),
    firewall,
    processes: await look(() => readProcesses()),
    cni: await look(() => readCni(env, directories)),
    disks,
  };
}

async function look<T>(action: () => T | Promise<T>): Promise<Known<T>> {
  try {
    return { known: true, value: await action() };
  } catch (thrown) {
    return { known: false, reason: explain(thrown) };
  }
}

async function readCluster({ store, clock }: Deps): Promise<ClusterFacts> {
  const began = clock.monotonic();
  const information = await store.get({ type: 'ClusterInformation', name: 'default' });
  const milliseconds = clock.monotonic() - began;
  const lists = await readLists(store);
  return {
    milliseconds,
    locked: information?.value.spec.datastoreReady === false,
    nodes: lists.nodes.entries.map(({ value }) => value),
    pools: poolUsage(lists),
    audit: audit(lists, { now: clock.wall(), graceSeconds }),
  };
}

function readNetwork(): NetworkFacts {
  const netlink = openNetlink();
  try {
    return { links: netlink.links(), addresses: netlink.addresses() };
  } finally {
    netlink.close();
  }
}

const sysctls = [
  'net/ipv4/ip_forward',
  'net/ipv6/conf/all/forwarding',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
];

/** Those that the kernel has. */
function readSysctls(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const path of sysctls) {
    try {
      found.set(path, readSysctl(path));
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || thrown.code !== 'ENOENT') throw thrown;
    }
  }
  return found;
}

async function readFirewall(): Promise<Record<Backend, RuleCounts>> {
  const [nft, legacy] = await Promise.all([countRules('nft'), countRules('legacy')]);
  return { nft, legacy };
}

/** Without -t: naming a table would create it. */
async function countRules(backend: Backend): Promise<RuleCounts> {
  const { status, stdout, stderr } = await runCommand([`iptables-${backend}-save`], { package: 'iptables' });
  // A kernel without the legacy tables has no rules in them.
  if (status !== 0 && backend === 'nft') throw new Error(`iptables-nft-save: ${stderr.trim() || `status ${status}`}`);
  return { ours: stdout.match(/^:cali-/gm)?.length ?? 0, kube: stdout.match(/^:KUBE-/gm)?.length ?? 0 };
}

async function readDisks(directories: readonly string[]): Promise<DiskFacts[]> {
  const found: DiskFacts[] = [];
  for (const directory of directories.filter((one) => existsSync(one))) {
    const { bavail, blocks } = await statfs(directory);
    const writable = await access(directory, constants.W_OK).then(
      () => true,
      () => false,
    );
    found.push({ directory, free: blocks === 0 ? 1 : bavail / blocks, writable });
  }
  return found;
}

function readCni(env: Environment, { confDir, binDir }: CniDirectories): CniFacts {
  const files = listing(confDir);
  const configurations = files
    .filter((file) => /\.(conf|conflist|json)$/.test(file))
    .toSorted()
    .map((file) => ({ file, types: typesIn(readFileSync(join(confDir, file), 'utf8')) }));
  const socketFile = join(binDir, 'margay.socket');
  const socket = existsSync(socketFile) ? readFileSync(socketFile, 'utf8').split('\n')[0] : undefined;
  const expectedSocket = join(runDir(env), 'cni.sock');
  const tokens = files.filter((file) => file.endsWith('kubeconfig')).flatMap((file) => tokenIn(join(confDir, file)));
  return {
    ...{ confDir, binDir, configurations, expectedSocket },
    plugin: existsSync(join(binDir, 'margay')),
    served: existsSync(expectedSocket),
    waiting: listing(cniQueueDir(env)).filter((file) => !file.startsWith('.')).length,
    ...(socket && { socket }),
    ...(tokens[0] && { token: tokens[0] }),
  };
}

/** Nothing where there is no such folder. */
function listing(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** Plugins of a network configuration; undefined when it cannot be read. */
function typesIn(text: string): string[] | undefined {
  try {
    const { plugins, type } = JSON.parse(text) as { plugins?: { type?: unknown }[]; type?: unknown };
    return (plugins ?? [{ type }]).map((plugin) => String(plugin.type));
  } catch (thrown) {
    if (thrown instanceof SyntaxError || thrown instanceof TypeError) return undefined;
    throw thrown;
  }
}

/** When the token of a kubeconfig ends, if it is one that says so (RFC 7519 §4.1.4). */
function tokenIn(file: string): { file: string; expires: Date }[] {
  const token = /^\s*token:\s*"?([\w-]+)\.([\w-]+)\.[\w-]*"?\s*$/m.exec(readFileSync(file, 'utf8'));
  if (!token?.[2]) return [];
  const claims: unknown = JSON.parse(Buffer.from(token[2], 'base64url').toString('utf8'));
  const exp = typeof claims === 'object' && claims !== null && 'exp' in claims ? Number(claims.exp) : Number.NaN;
  return Number.isFinite(exp) ? [{ file, expires: new Date(exp * 1000) }] : [];
}
