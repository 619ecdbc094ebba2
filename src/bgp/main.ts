import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { EnvironmentError, errorCode, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listening } from '../base/serve.ts';
import { Trigger } from '../base/trigger.ts';
import type { Store } from '../datastore/store.ts';
import { sync } from '../datastore/syncer.ts';
import type { Update } from '../datastore/update.ts';
import { compile, type Problem } from './config.ts';
import { Control } from './control.ts';
import { Feed } from './feed.ts';
import { KernelRoutes } from './kernel-routes.ts';
import { type Limits, readLimits, withinLimit } from './limits.ts';
import { logLevelOf } from './log-level.ts';
import { readMetricsSettings } from './metrics-settings.ts';
import { tracksNextHops } from './next-hops.ts';
import { ObjectStore, watched } from './objects.ts';
import { rereadMilliseconds, SecretFiles } from './secrets.ts';
import type { SpeakerConfig } from './settings.ts';
import { makeRunDir } from './socket.ts';
import { Speaker } from './speaker.ts';
import { warmUp } from './warm-up.ts';

export interface BgpOptions {
  readonly store: Store;
  readonly nodename: string;
  /** Where `bgp.sock` and `routes.sock` are served; made if missing. */
  readonly runDir: string;
  /**
   * Read: MARGAY_BGPMETRICS… (metrics.ts), MARGAY_BGPMAX… (limits.ts), CALICO_ROUTER_ID, CALICO_ADVERTISE_CLUSTER_IPS,
   * CALICO_K8S_NODE_REF, MARGAY_BGPNEXTHOPTRACKING (next-hops.ts), MARGAY_SECRETS_DIR.
   */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * `margay bgp`: follows the datastore, speaks BGP, serves the route feed and the control socket, until the signal
 * aborts. It then closes its sessions without a NOTIFICATION, so that peers keep this node's routes over a restart.
 * @throws EnvironmentError when a port or socket is taken, InputError for a wrong CALICO_ROUTER_ID
 */
export async function runBgp(options: BgpOptions): Promise<void> {
  const { store, log, clock } = options;
  const ours = new AbortController();
  const signal = AbortSignal.any([options.signal, ours.signal]);
  const objects = new ObjectStore(options.nodename, log);
  const changed = new Trigger(clock);
  let inSync = false;
  const consumer = (update: Update): void => {
    let relevant = update.op === 'inSync';
    if (update.op === 'inSync') inSync = true;
    if (update.op === 'events') for (const event of update.events) relevant = objects.apply(event) || relevant;
    if (inSync && relevant) changed.fire();
  };
  const syncing = sync({ store, types: watched, consumer, log, clock, signal });
  try {
    await Promise.race([syncing, serve({ ...options, signal }, objects, changed)]);
  } finally {
    ours.abort();
    await syncing;
  }
}

async function serve(options: BgpOptions, objects: ObjectStore, changed: Trigger): Promise<void> {
  const { log, signal } = options;
  const limits = readLimits(options.env);
  const metricsSettings = readMetricsSettings(options.env);
  const configs = new Configs(options, objects, limits);
  let config: SpeakerConfig | undefined;
  while (config === undefined) {
    if (!(await changed.wait(undefined, signal))) return;
    config = configs.next();
  }
  const { clock } = options;
  const trackNextHops = tracksNextHops(options.env, true);
  const routes = new KernelRoutes();
  const ways = { lookup: routes.lookup, trackNextHops };
  const deps = { clock, log, restarted: restarted(options.runDir), limits, ...ways };
  const speaker = new Speaker(config, deps);
  const feed = new Feed(speaker, log);
  const control = new Control(speaker, log);
  let metrics: Listening | undefined;
  try {
    makeRunDir(options.runDir);
    await feed.listen(join(options.runDir, 'routes.sock'));
    await control.listen(join(options.runDir, 'bgp.sock'));
    if (metricsSettings) metrics = await (await import('./metrics.ts')).serveMetrics(speaker, metricsSettings, log);
    await warmUp(log, signal);
    await speaker.start();
    markStarted(options.runDir, log);
    log.info({ asn: config.asn, identifier: config.identifier, port: config.listenPort }, 'BGP speaker runs');
    await follow(options, configs, speaker, changed);
  } finally {
    await speaker.stop('restart');
    routes.close();
    control.close();
    feed.close();
    await metrics?.close();
  }
}

/** Applies each change until the signal aborts; one that this host refuses (a port in use) is tried again. */
async function follow(
  { log, signal }: BgpOptions,
  configs: Configs,
  speaker: Speaker,
  changed: Trigger,
): Promise<void> {
  const backoff = new Backoff(1000, 30_000);
  let retryMs: number | undefined;
  while (!signal.aborted) {
    await changed.wait(retryMs ?? (configs.secrets.used ? rereadMilliseconds : undefined), signal);
    if (signal.aborted) return;
    retryMs = undefined;
    const config = configs.next();
    if (!config) continue;
    try {
      await speaker.apply(config);
      backoff.reset();
    } catch (thrown) {
      if (!(thrown instanceof EnvironmentError)) throw thrown;
      retryMs = backoff.next();
      log.error({ reason: explain(thrown), retryMs }, 'configuration not applied; the last one stays');
    }
  }
}

/** Compiles, and says once what is wrong. */
class Configs {
  readonly secrets: SecretFiles;
  readonly #ownLevel: string;
  #told = '';
  #missing = false;

  constructor(
    private readonly options: BgpOptions,
    private readonly objects: ObjectStore,
    private readonly limits: Limits,
  ) {
    this.#ownLevel = options.log.level;
    this.secrets = new SecretFiles(options.env['MARGAY_SECRETS_DIR']);
  }

  /** Undefined while this node has no BGP address; what ran before then stays. */
  next(): SpeakerConfig | undefined {
    const { nodename, env, log } = this.options;
    this.secrets.used = false;
    const compiled = compile(this.objects, nodename, env['CALICO_ROUTER_ID'], this.secrets.find, {
      ...(env['CALICO_ADVERTISE_CLUSTER_IPS'] ? { clusterIPs: env['CALICO_ADVERTISE_CLUSTER_IPS'] } : {}),
      ...(env['CALICO_K8S_NODE_REF'] ? { node: env['CALICO_K8S_NODE_REF'] } : {}),
    });
    if (!compiled) {
      if (!this.#missing)
        log.warn({ node: nodename }, 'this Node has no spec.bgp address in the datastore; waiting for one');
      this.#missing = true;
      return undefined;
    }
    this.#missing = false;
    this.#setLogLevel();
    const { config, surplus } = withinLimit(compiled.config, this.limits);
    const detail = `left out: more than ${this.limits.peers} peers (MARGAY_BGPMAXPEERS)`;
    this.#report([...compiled.problems, ...surplus.map((name) => ({ object: `peer ${name}`, detail }))]);
    return config;
  }

  #setLogLevel(): void {
    const { nodename, env, log } = this.options;
    const level = logLevelOf(this.objects, nodename, env, this.#ownLevel);
    if (level === log.level) return;
    log.info({ level }, 'log level changed');
    log.level = level;
  }

  #report(problems: readonly Problem[]): void {
    const text = JSON.stringify(problems);
    if (text !== this.#told) for (const problem of problems) this.options.log.warn(problem, 'cannot be followed');
    this.#told = text;
  }
}

/*
 * A mark that a speaker has run on this node since it booted: felix has kept its routes in the kernel ever since, so a
 * new process may claim a graceful restart with forwarding preserved. RFC 4724 §4.1.
 */
const markName = 'bgp.started';

function restarted(runDir: string): boolean {
  try {
    return readFileSync(join(runDir, markName), 'utf8') === bootId();
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return false;
    throw thrown;
  }
}

/** A full disk costs the grace of the next start, not this speaker. */
function markStarted(runDir: string, log: Log): void {
  try {
    writeFileSync(join(runDir, markName), bootId());
  } catch (cause) {
    log.warn(
      { reason: explain(cause), file: markName },
      'not noted that a speaker ran; its next start is not graceful',
    );
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
