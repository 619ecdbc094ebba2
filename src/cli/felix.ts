import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { createLog, type Log, parseLevel } from '../base/log.ts';
import { DeferringHandler } from '../cni/deferring.ts';
import { HandedNamespaces } from '../cni/handed-namespaces.ts';
import { CniHandler } from '../cni/handler.ts';
import { openPodNamespace } from '../cni/pod.ts';
import { RemovalQueue } from '../cni/removals.ts';
import type { RawRequest } from '../cni/request.ts';
import { startCniServer } from '../cni/server.ts';
import { openStoreAside } from '../datastore/aside/open.ts';
import { readStoreConfig } from '../datastore/config.ts';
import type { Store } from '../datastore/store.ts';
import { claimRunDir } from '../felix/control.ts';
import { type AssembledFelix, assembleFelix } from '../felix/run.ts';
import { StatusReports } from '../felix/status-reports.ts';
import { TunnelAddresses } from '../felix/tunnel-addresses.ts';
import { TunnelReport } from '../felix/tunnel-report.ts';
import { Ipam } from '../ipam/allocator.ts';
import { PodCidrPool } from '../ipam/pod-cidr.ts';
import { warmThreads } from '../kernel/setns.ts';
import { useSysctlRoot } from '../kernel/sysctl.ts';
import type { Family } from '../model/address.ts';
import { seesNamespaces } from './calico-names.ts';
import { mtuOf } from './cni.ts';
import { keepKubeconfig } from './cni-access.ts';
import { ask } from './control.ts';
import { cniQueueDir, type Environment, hasBgp, nodename, podCidrDir, runDir, usesPodCidr } from './environment.ts';
import { NodeStatusReporter } from './node-status.ts';
import { type PodFactsSource, podFactsSource } from './pod-facts.ts';
import { checkFelix } from './preflight.ts';
import { rehearse } from './rehearsal.ts';
import { stopSignal } from './supervisor.ts';

/** MTU of Ethernet: what pod devices get unless CNI_MTU or the network configuration says otherwise. */
const defaultMtu = 1500;

/** `margay felix`: the dataplane and the CNI server, until told to stop. The kernel's state outlives it. */
export async function runFelixProgram(env: NodeJS.ProcessEnv): Promise<void> {
  const log = createLog('felix', parseLevel(env['FELIX_LOGSEVERITYSCREEN'] || 'info', 'FELIX_LOGSEVERITYSCREEN'));
  const node = nodename(env);
  checkFelix(env);
  await claimRunDir(runDir(env));
  useSysctlRoot(env['MARGAY_SYSCTL_ROOT'] || '/proc/sys');
  warmThreads();
  const signal = stopSignal(env);
  const store = openStoreAside(readStoreConfig(env), log);
  const pods = podFactsSource(store, env, log);
  try {
    const options = {
      store,
      nodename: node,
      runDir: runDir(env),
      env,
      log,
      clock: systemClock,
      bgp: hasBgp(env),
      ...podMtuOf(env),
    };
    const assembled = await assembleFelix(options);
    // Either ending ends the other: a node that cannot serve CNI requests has to be started again.
    const both = new AbortController();
    const all = AbortSignal.any([signal, both.signal]);
    const activity = new Activity();
    assembled.felix.onPass(() => activity.note());
    // The CNI server first: it is fed from felix's first update on.
    const ipam = new Ipam({ store, node, clock: systemClock, log });
    const tunnels = tunnelAddresses(assembled, store, ipam, node, log);
    const support = tunnelReport(assembled, store, node, log);
    const parts = [
      serveCni(assembled, store, pods, ipam, node, env, log, all, activity),
      rehearse({ store, lastBusy: () => activity.last, clock: systemClock, log, signal: all }),
      tunnels.run(all),
      support.run(all),
      keepKubeconfig(env, log, all),
      statusReports(assembled, store, node, log).run(all),
      ...(options.bgp ? [nodeStatus(store, node, env, log).run(all)] : []),
      assembled.run(all),
    ];
    try {
      await Promise.all(parts);
    } finally {
      both.abort();
      await Promise.allSettled(parts);
    }
  } finally {
    pods.close();
    store.close();
  }
}

/** What the speaker says of itself, written where a CalicoNodeStatus asks for it; the speaker only reads. */
function nodeStatus(store: Store, node: string, env: Environment, log: Log): NodeStatusReporter {
  return new NodeStatusReporter({ store, node, ask: (path) => ask(runDir(env), 'bgp', path), clock: systemClock, log });
}

/** CNI_MTU, where it is set. @throws InputError */
function podMtuOf(env: Environment): { readonly podMtu?: number } {
  const podMtu = mtuOf(env);
  return podMtu === undefined ? {} : { podMtu };
}

/** When the agent last had something to do. */
class Activity {
  #noted: number | undefined;

  /** `systemClock.monotonic()`; just now until the kernel is as wanted for the first time. */
  get last(): number {
    return this.#noted ?? systemClock.monotonic();
  }

  note(): void {
    this.#noted = systemClock.monotonic();
  }
}

/** The addresses of the tunnel devices, fed from felix's first update on. */
function tunnelAddresses(
  { felix, config }: AssembledFelix,
  store: Store,
  ipam: Ipam,
  node: string,
  log: Log,
): TunnelAddresses {
  let { vxlanEnabled, ipipEnabled } = config;
  felix.onConfig((changed) => {
    ({ vxlanEnabled, ipipEnabled } = changed);
  });
  const families: Family[] = config.ipv6Support ? [4, 6] : [4];
  const addresses = new TunnelAddresses({
    ...{ store, ipam, node, families, log },
    enabled: (kind) => (kind === 'vxlan' ? vxlanEnabled : ipipEnabled) !== false,
    clock: systemClock,
  });
  felix.onUpdate((update) => addresses.consume(update));
  return addresses;
}

/** What tunnels the kernel lacks, told to the other nodes. */
function tunnelReport({ felix }: AssembledFelix, store: Store, node: string, log: Log): TunnelReport {
  const report = new TunnelReport({ store, node, clock: systemClock, log });
  felix.onUpdate((update) => report.consume(update));
  felix.onTunnelSupport((lacking) => report.lacks(lacking));
  return report;
}

/** Felix's status in etcd, from the first pass on. */
function statusReports({ felix, config }: AssembledFelix, store: Store, node: string, log: Log): StatusReports {
  const reports = new StatusReports({ store, node, clock: systemClock, log }, config);
  felix.onConfig((changed) => reports.follow(changed));
  felix.onPass(({ failures }) => void (failures > 0 || reports.programmed()));
  return reports;
}

async function serveCni(
  { felix, netlink, config }: AssembledFelix,
  store: Store,
  { podFacts }: PodFactsSource,
  ipam: Ipam,
  node: string,
  env: Environment,
  log: Log,
  signal: AbortSignal,
  activity: Activity,
): Promise<void> {
  const podCidr = usesPodCidr(env);
  const pool = podCidr ? new PodCidrPool({ store, node, directory: podCidrDir(env), log }) : ipam;
  const verbs = new CniHandler({
    store,
    ipam: pool,
    ...(podFacts && { podFacts }),
    netlink,
    openPod: openPodNamespace,
    nodename: node,
    felix,
    config: {
      get mtu() {
        return felix.podMtu() ?? defaultMtu;
      },
      interfacePrefix: config.interfacePrefix,
      // As Calico's plugin: IPv6 is asked for in the network configuration (ipam.assign_ipv6).
      families: [4],
      podCidr,
    },
    clock: systemClock,
    log,
  });
  const queue = new RemovalQueue(cniQueueDir(env), log);
  const handler = new DeferringHandler({ verbs, queue, clock: systemClock, log });
  felix.onUpdate((update) => {
    ipam.consume(update);
    if (pool !== ipam) pool.consume(update);
    handler.consume(update);
  });
  const socketPath = join(runDir(env), 'cni.sock');
  const handed = seesNamespaces(readFileSync('/proc/self/mountinfo', 'utf8'))
    ? undefined
    : new HandedNamespaces(socketPath, systemClock, log);
  const noted = {
    handle: (request: RawRequest, gone: AbortSignal) => {
      activity.note();
      const handle = () => handler.handle(request, gone);
      const handled = handed ? handed.during(request.env['CNI_NETNS'], handle) : handle();
      return handled.finally(() => activity.note());
    },
  };
  try {
    const { closed } = await startCniServer({ socketPath, handler: noted, log, signal });
    await Promise.all([closed, handler.run(signal)]);
  } finally {
    handed?.close();
  }
}
