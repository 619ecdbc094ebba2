import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import { type LabNode, type LabPlan, podPools, stateRoot } from './plan.ts';
import { startBackground } from './processes.ts';
import { run } from './run.ts';
import { birdConfig, frrConfig } from './tor.ts';
import { until } from './wait.ts';

/** Where the bundled programs are: beside this one. */
export const programs = dirname(fileURLToPath(import.meta.url));

/** The lab's directory; its existence is the claim to the name. @throws EnvironmentError when the name is taken */
export function claimState(plan: LabPlan): void {
  mkdirSync(stateRoot, { recursive: true, mode: 0o755 });
  try {
    mkdirSync(plan.stateDir, { mode: 0o755 });
  } catch (thrown) {
    if (errorCode(thrown) !== 'EEXIST') throw thrown;
    throw new EnvironmentError(
      `there is a lab "${plan.name}" already`,
      `use it, or remove it, also what a crash left of it, with: npm run lab -- --down${plan.name === 'lab' ? '' : ` --name ${plan.name}`}`,
    );
  }
  for (const node of plan.nodes) mkdirSync(node.runDir);
  writeFileSync(planFile(plan.name), JSON.stringify(plan, null, 2));
}

/** Where the plan of a standing lab is kept, as JSON. */
export function planFile(name: string): string {
  return join(stateRoot, name, 'plan.json');
}

const vxlanModes = { none: 'Never', vxlan: 'Always', crosssubnet: 'CrossSubnet' } as const;

/** The environment in which programs of a node run, as the DaemonSet would set it. */
export function nodeEnvironment(plan: LabPlan, node: LabNode): Record<string, string> {
  const ip = (family: 4 | 6) => node.addresses[family] ?? 'none';
  return {
    PATH: process.env['PATH'] ?? '',
    NODENAME: node.name,
    DATASTORE_TYPE: 'etcdv3',
    ETCD_ENDPOINTS: plan.etcd.endpoint,
    IP: ip(4),
    IP6: ip(6),
    CALICO_IPV4POOL_CIDR: plan.families.includes(4) ? (podPools[4] ?? '') : 'none',
    CALICO_IPV6POOL_CIDR: plan.families.includes(6) ? (podPools[6] ?? '') : 'none',
    CALICO_IPV4POOL_VXLAN: vxlanModes[plan.encap],
    CALICO_IPV6POOL_VXLAN: vxlanModes[plan.encap],
    CALICO_NETWORKING_BACKEND: plan.bgp ? 'bird' : 'vxlan',
    FELIX_IPV6SUPPORT: String(plan.families.includes(6)),
    MARGAY_RUN_DIR: node.runDir,
    MARGAY_LIB_DIR: node.runDir,
    // The lock of iptables is a file, and so would be shared by all nodes of this machine.
    XTABLES_LOCKFILE: join(node.runDir, 'xtables.lock'),
    NODE_COMPILE_CACHE: join(programs, '.compile-cache'),
  };
}

/** Starts etcd. */
export async function startEtcd({ name, etcd, stateDir }: LabPlan): Promise<void> {
  const peer = etcd.endpoint.replace(':2379', ':2380');
  await startBackground({
    lab: name,
    netns: etcd.netns,
    command: 'etcd',
    args: [
      // A lab's data need not outlive a power failure, and a disk's flush would be most of what a pod's start takes.
      ...['--name', 'lab', '--data-dir', join(stateDir, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
      ...['--listen-client-urls', etcd.endpoint, '--advertise-client-urls', etcd.endpoint],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `lab=${peer}`],
      ...['--heartbeat-interval', '50', '--election-timeout', '250'],
    ],
    logFile: etcd.logFile,
  });
}

/** Resolves when etcd has elected itself and answers. The caller's process is on the lab's fabric. */
export async function etcdReady({ etcd }: LabPlan, signal: AbortSignal): Promise<void> {
  await until('etcd answers', 30_000, signal, async () => {
    const response = await fetch(`${etcd.endpoint}/health`, { signal: AbortSignal.timeout(1000) });
    const { health } = (await response.json()) as { health?: string };
    return health === 'true' ? { health } : `health is ${health}`;
  });
}

/** Starts the ToR's routing daemon. */
export async function startTor(plan: LabPlan): Promise<void> {
  const { tor, torKind, stateDir, name } = plan;
  if (!tor || torKind === 'none') return;
  const base = { lab: name, netns: tor.netns, logFile: tor.logFile };
  const directory = join(stateDir, 'tor');
  mkdirSync(directory);
  if (torKind === 'bird') {
    writeFileSync(join(directory, 'bird.conf'), birdConfig(plan, tor));
    const args = ['-f', '-c', join(directory, 'bird.conf'), '-s', join(directory, 'bird.ctl')];
    await startBackground({ ...base, command: 'bird', args });
    return;
  }
  writeFileSync(join(directory, 'frr.conf'), frrConfig(plan, tor));
  // FRR drops its privileges to the user `frr`, who has to make sockets here.
  await run('chown', ['-R', 'frr:frr', directory]);
  chmodSync(directory, 0o755);
  const api = join(directory, 'zserv.api');
  const common = (daemon: string) => [
    ...['-f', join(directory, 'frr.conf'), '-i', join(directory, `${daemon}.pid`), '-z', api],
    ...['--vty_socket', directory, '--log', 'stdout', '-P', '0'],
  ];
  await startBackground({ ...base, command: '/usr/lib/frr/zebra', args: common('zebra') });
  await startBackground({ ...base, command: '/usr/lib/frr/bgpd', args: common('bgpd') });
}

/** Starts the agents of one node, as its container or systemd unit would. */
export async function startNode(plan: LabPlan, node: LabNode): Promise<void> {
  await startBackground({
    lab: plan.name,
    netns: node.netns,
    command: process.execPath,
    args: ['--enable-source-maps', join(programs, 'margay.js'), 'node'],
    logFile: node.logFile,
    env: nodeEnvironment(plan, node),
    cwd: node.runDir,
  });
}

/** Starts the process that answers in the pods and on the legacy server. */
export async function startPodServer(plan: LabPlan): Promise<void> {
  await startBackground({
    lab: plan.name,
    netns: plan.fabric.netns,
    command: process.execPath,
    args: [join(programs, 'lab-pods.js'), plan.podServer.socket],
    logFile: plan.podServer.logFile,
  });
}

/** Makes a responder answer in a namespace, or stop. */
export function responder(plan: LabPlan, method: 'POST' | 'DELETE', netns: string, name: string): Promise<void> {
  const path = `/responder?${new URLSearchParams({ netns, name })}`;
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: plan.podServer.socket, method, path }, (response) => {
      response.resume();
      response.once('end', () =>
        response.statusCode === 200
          ? resolve()
          : reject(new Error(`responder of ${name}: HTTP ${response.statusCode}`)),
      );
    });
    sent.once('error', reject);
    sent.end();
  });
}

/** Responders in every pod of the plan and on the legacy server. */
export async function startResponders(plan: LabPlan, signal: AbortSignal): Promise<void> {
  const machines = [...plan.pods, ...(plan.legacy ? [plan.legacy] : [])];
  const [first, ...others] = machines;
  if (!first) return;
  await until('the responders start', 15_000, signal, async () => {
    await responder(plan, 'POST', first.netns, first.name);
    return {};
  });
  await Promise.all(others.map(({ netns, name }) => responder(plan, 'POST', netns, name)));
}
