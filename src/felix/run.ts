import { existsSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Store, StoreUnavailableError } from '../datastore/store.ts';
import { countKernelCalls } from '../kernel/calls.ts';
import { openConntrack } from '../kernel/conntrack.ts';
import { cpuMilliseconds } from '../kernel/cpu.ts';
import { createIpsets } from '../kernel/ipset.ts';
import { openIpsetMembers } from '../kernel/ipset-netlink.ts';
import { type Backend, detectBackend } from '../kernel/iptables/backend.ts';
import { createIptables } from '../kernel/iptables/driver.ts';
import { takesRule } from '../kernel/iptables/support.ts';
import { openNetlink } from '../kernel/rtnetlink/driver.ts';
import { RouteLookup } from '../kernel/rtnetlink/lookup.ts';
import { writeSysctl } from '../kernel/sysctl.ts';
import type { Netlink } from '../kernel/types.ts';
import { openUdpTunnel } from '../kernel/udp-tunnel.ts';
import { type Family, type Ip, isLinkLocal } from '../model/address.ts';
import { tellingRule } from '../policy/render/verdict.ts';
import { registerCluster } from './cluster-metrics.ts';
import { type FelixConfig, readEnvironment } from './config.ts';
import { Configuration } from './configuration.ts';
import { assembleVerdicts } from './flow-log/assemble.ts';
import { Felix } from './main.ts';
import { TighteningManager } from './managers/tightening.ts';
import { registerCalls } from './metrics.ts';
import { sweepOtherBackend } from './other-backend.ts';
import { RenderedPolicy } from './policy.ts';
import { Servers } from './servers.ts';
import { WorkMetrics } from './work-metrics.ts';

export interface FelixOptions {
  readonly store: Store;
  readonly nodename: string;
  /** Holds the unix sockets. */
  readonly runDir: string;
  /** FELIX_* are read from it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly clock: Clock;
  /** Whether a BGP speaker runs on the node (default). */
  readonly bgp?: boolean;
  /** MTU of pods' devices; undefined: as the tunnels or the uplink leave it. */
  readonly podMtu?: number;
}

export interface AssembledFelix {
  readonly felix: Felix;
  readonly config: FelixConfig;
  /** Of the node's namespace; the CNI server shares it. */
  readonly netlink: Netlink;
  /** Runs felix, and the health and metrics servers when they are enabled, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

/**
 * Felix with the real drivers, for the network namespace that the process is in.
 * @throws InputError for a bad setting, EnvironmentError when the host lacks something
 */
export async function assembleFelix(options: FelixOptions): Promise<AssembledFelix> {
  const { store, nodename, runDir, log, clock } = options;
  const configuration = await configurationOf(options);
  const config = configuration.current;
  log.level = config.logLevel;
  const backend = config.iptablesBackend === 'auto' ? await detectBackend() : config.iptablesBackend;
  const six = config.ipv6Support && existsSync('/proc/sys/net/ipv6');
  if (config.ipv6Support && !six) log.warn('the kernel has no IPv6; only IPv4 is handled');
  log.info({ node: nodename, backend, ipv6: six }, 'starting');
  const telling = await takesRule(tellingRule('try'), { backend });
  if (!telling) log.warn('the kernel has no NFLOG or limit for rules; margayctl flows shows nothing');
  const netlink = openNetlink({ aside: true });
  const conntrack = openConntrack();
  const members = openIpsetMembers();
  const routes = new RouteLookup();
  const policy = new RenderedPolicy(nodename, config, log, telling);
  const families: readonly Family[] = six ? [4, 6] : [4];
  const tightening = new TighteningManager(
    () => (configuration.current.establishedFlows === 'cut' ? policy.snapshot() : undefined),
    () =>
      conntrack.deleteMatching(
        families,
        policy.refuses(new Set(netlink.addresses().map(({ address }) => address)), deviceTo(routes)),
      ),
    clock,
    log,
  );
  const verdicts = assembleVerdicts({
    policy: () => policy.snapshot(),
    telling: () => (telling ? configuration.current.verdictLogs : 'none'),
    ...{ node: nodename, backend, families, netlink, clock, log },
  });
  const work = new WorkMetrics(clock);
  const calls = Object.assign(countKernelCalls(), { started: work.started });
  const felix = new Felix({
    store,
    netlink,
    iptables: {
      4: createIptables({ family: 4, backend, log, calls }),
      ...(six && { 6: createIptables({ family: 6, backend, log, calls }) }),
    },
    ipsets: createIpsets({ log, calls, members }),
    policy,
    deleteFlows: (addresses) => conntrack.deleteFlows(addresses),
    writeSysctl,
    openUdpTunnel,
    cpuMilliseconds,
    nodename,
    runDir,
    config,
    configuration,
    views: verdicts.views,
    calculated: work.calculated,
    readingRoutes: work.readingRoutes,
    ...(options.bgp !== undefined && { bgp: options.bgp }),
    ...(options.podMtu !== undefined && { podMtu: options.podMtu }),
    clock,
    log,
  });
  felix.onPass(() => tightening.passed());
  felix.onPass(() => verdicts.passed());
  felix.onUpdate(verdicts.consume);
  felix.onUpdate(work.consume);
  felix.onPass(work.passed);
  const sockets = [netlink, conntrack, members, routes];
  leaveOtherBackend(felix, backend, families, log);
  const servers = new Servers(felix, log, (registry) => {
    verdicts.register(registry);
    registerCalls(registry, calls);
    registerCluster(registry, () => verdicts.mirror.counts(), work.resyncs);
    work.register(registry, nodename, () => policy.labelStats());
  });
  const run = (signal: AbortSignal) =>
    runWithServers(felix, servers, [tightening, verdicts.log], config, sockets, signal);
  return { felix, config, netlink, run };
}

/** The one device by which the kernel reaches an address; a link-local one may be anywhere. */
function deviceTo(routes: RouteLookup): (address: Ip) => string | undefined {
  return (address) => (isLinkLocal(address) ? undefined : routes.route(address)?.device || undefined);
}

/** Once the rules stand in this backend, ours in the other one go; a failure is tried again after the next pass. */
function leaveOtherBackend(felix: Felix, backend: Backend, families: readonly Family[], log: Log): void {
  const driverOf = (family: Family, other: Backend) => createIptables({ family, backend: other, log });
  let state: 'due' | 'running' | 'done' = 'due';
  felix.onPass(({ failures }) => {
    if (state !== 'due' || failures > 0) return;
    state = 'running';
    void sweepOtherBackend(backend, families, driverOf).then(
      (chains) => {
        state = 'done';
        if (chains > 0) log.info({ chains, backend }, 'took our rules out of the other iptables backend');
      },
      (cause: unknown) => {
        state = 'due';
        log.warn({ error: explain(cause) }, 'our rules in the other iptables backend stay; will retry after a pass');
      },
    );
  });
}

/** Environment and datastore; the latter's part waits for a datastore that does not answer now. @throws InputError */
async function configurationOf({ nodename, env, log, store }: FelixOptions): Promise<Configuration> {
  const configuration = new Configuration(nodename, readEnvironment(env, log), log);
  try {
    await configuration.load(store);
  } catch (thrown) {
    if (!(thrown instanceof StoreUnavailableError)) throw thrown;
    log.warn(
      { error: explain(thrown) },
      'starting with the settings of the environment: the datastore does not answer',
    );
  }
  return configuration;
}

async function runWithServers(
  felix: Felix,
  servers: Servers,
  parts: readonly { run(signal: AbortSignal): Promise<void> }[],
  config: FelixConfig,
  sockets: readonly { close(): void }[],
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const all = AbortSignal.any([signal, stop.signal]);
  try {
    await servers.apply(config);
    felix.onConfig((changed) => void servers.follow(changed));
    await Promise.all([felix, ...parts].map((part) => part.run(all)));
  } finally {
    stop.abort();
    await servers.close();
    for (const socket of sockets) socket.close();
  }
}
