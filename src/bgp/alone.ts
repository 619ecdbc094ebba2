import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listening } from '../base/serve.ts';
import type { Trigger } from '../base/trigger.ts';
import { Control } from './control.ts';
import { Feed } from './feed.ts';
import { KernelRoutes } from './kernel-routes.ts';
import { type Limits, readLimits, withinLimit } from './limits.ts';
import { readMetricsSettings } from './metrics-settings.ts';
import { tracksNextHops } from './next-hops.ts';
import type { SpeakerConfig } from './settings.ts';
import { Speaker } from './speaker.ts';
import type { StandaloneSetup } from './standalone.ts';
import { warmUp } from './warm-up.ts';

export interface AloneOptions {
  readonly setup: StandaloneSetup;
  /** Fired when the file is to be read again. */
  readonly reload: Trigger;
  /** Reads the file again; undefined, with the reason in the log, when it cannot be followed. */
  readonly load: () => StandaloneSetup | undefined;
  /** Goes before the file. Read: MARGAY_BGPMETRICS… (metrics.ts), MARGAY_BGPMAX… (limits.ts), next-hops.ts. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * `margay bgp --config`: a speaker without datastore and felix, until the signal aborts. It then tells its peers by a
 * Cease (6/2), and its routes go: nobody forwards in its place.
 * @throws EnvironmentError when a port or socket is taken, InputError for a wrong limit or metrics setting
 */
export async function runAlone(options: AloneOptions): Promise<void> {
  const { setup, log, clock, env } = options;
  const metricsSettings = readMetricsSettings(env, setup.metrics);
  const limits = readLimits(env, setup.limits);
  const trackNextHops = tracksNextHops(env, setup.trackNextHops ?? false);
  const routes = new KernelRoutes();
  const deps = { clock, log, limits, lookup: routes.lookup, trackNextHops };
  const speaker = new Speaker(limited(setup.config, limits, log), deps);
  const control = setup.control === undefined ? undefined : new Control(speaker, log);
  const feed = setup.routes === undefined ? undefined : new Feed(speaker, log);
  let metrics: Listening | undefined;
  try {
    if (setup.control !== undefined) await control?.listen(directoryMade(setup.control));
    if (setup.routes !== undefined) await feed?.listen(directoryMade(setup.routes));
    if (metricsSettings) metrics = await (await import('./metrics.ts')).serveMetrics(speaker, metricsSettings, log);
    await warmUp(log, options.signal);
    await speaker.start();
    const { asn, identifier, listenPort } = setup.config;
    log.info({ asn, identifier, port: listenPort, peers: setup.config.peers.length }, 'BGP speaker runs alone');
    await follow(options, speaker, limits);
  } finally {
    await speaker.stop('shutdown');
    routes.close();
    control?.close();
    feed?.close();
    await metrics?.close();
  }
}

function limited(config: SpeakerConfig, limits: Limits, log: Log): SpeakerConfig {
  const { config: within, surplus } = withinLimit(config, limits);
  if (surplus.length > 0) log.warn({ peers: surplus, limit: limits.peers }, 'peers left out: more than the limit');
  return within;
}

async function follow(
  { setup, reload, load, log, signal }: AloneOptions,
  speaker: Speaker,
  limits: Limits,
): Promise<void> {
  while (await reload.wait(undefined, signal)) {
    const next = load();
    if (!next) continue;
    const waiting = fixed.filter((key) => JSON.stringify(next[key]) !== JSON.stringify(setup[key]));
    if (waiting.length > 0) log.warn({ fields: waiting }, 'these fields change only by a restart');
    try {
      await speaker.apply(limited(next.config, limits, log));
      log.info({ peers: next.config.peers.length }, 'configuration applied');
    } catch (thrown) {
      if (!(thrown instanceof EnvironmentError)) throw thrown;
      log.error({ reason: explain(thrown) }, 'configuration not applied; the last one stays');
    }
  }
}

/** Sections of the file that are followed at the start only. */
const fixed = ['control', 'routes', 'limits', 'metrics', 'trackNextHops'] as const;

function directoryMade(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  return path;
}
