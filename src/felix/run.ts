import { existsSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Store } from '../datastore/store.ts';
import { deleteFlows } from '../kernel/conntrack.ts';
import { createIpsets } from '../kernel/ipset.ts';
import { detectBackend } from '../kernel/iptables/backend.ts';
import { createIptables } from '../kernel/iptables/driver.ts';
import { openNetlink } from '../kernel/rtnetlink/driver.ts';
import { writeSysctl } from '../kernel/sysctl.ts';
import type { Netlink } from '../kernel/types.ts';
import { type FelixConfig, readFelixConfig } from './config.ts';
import { type Listening, serveHealth } from './health.ts';
import { Felix } from './main.ts';
import { Metrics, serveMetrics } from './metrics.ts';
import { RenderedPolicy } from './policy.ts';

export interface FelixOptions {
  readonly store: Store;
  readonly nodename: string;
  /** Holds the unix sockets. */
  readonly runDir: string;
  /** FELIX_* are read from it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly clock: Clock;
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
  const { store, nodename, runDir, env, log, clock } = options;
  const config = readFelixConfig(env, log);
  const backend = config.iptablesBackend === 'auto' ? await detectBackend() : config.iptablesBackend;
  const six = config.ipv6Support && existsSync('/proc/sys/net/ipv6');
  if (config.ipv6Support && !six) log.warn('the kernel has no IPv6; only IPv4 is handled');
  log.info({ node: nodename, backend, ipv6: six }, 'starting');
  const netlink = openNetlink();
  const felix = new Felix({
    store,
    netlink,
    iptables: {
      4: createIptables({ family: 4, backend, log }),
      ...(six && { 6: createIptables({ family: 6, backend, log }) }),
    },
    ipsets: createIpsets({ log }),
    policy: new RenderedPolicy(nodename, config, log),
    deleteFlows,
    writeSysctl,
    nodename,
    runDir,
    config,
    clock,
    log,
  });
  return { felix, config, netlink, run: (signal) => runWithServers(felix, config, netlink, signal) };
}

/** `assembleFelix`, run at once. */
export async function runFelix(options: FelixOptions & { readonly signal: AbortSignal }): Promise<void> {
  const { run } = await assembleFelix(options);
  await run(options.signal);
}

async function runWithServers(felix: Felix, config: FelixConfig, netlink: Netlink, signal: AbortSignal): Promise<void> {
  const servers: Listening[] = [];
  try {
    if (config.healthEnabled) servers.push(await serveHealth(felix, config.healthHost, config.healthPort));
    if (config.metricsEnabled) {
      const metrics = new Metrics(() => felix.counts());
      felix.onPass(({ milliseconds, failures }) => metrics.applied(milliseconds, failures > 0));
      servers.push(await serveMetrics(metrics, config.metricsHost, config.metricsPort));
    }
    await felix.run(signal);
  } finally {
    await Promise.all(servers.map((server) => server.close()));
    netlink.close();
  }
}
