import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Trigger } from '../base/trigger.ts';
import { Control } from './control.ts';
import { Feed } from './feed.ts';
import { readLimits } from './limits.ts';
import { readMetricsSettings, serveMetrics } from './metrics.ts';
import { Speaker } from './speaker.ts';
import type { StandaloneSetup } from './standalone.ts';

export interface AloneOptions {
  readonly setup: StandaloneSetup;
  /** Fired when the file is to be read again. */
  readonly reload: Trigger;
  /** Reads the file again; undefined, with the reason in the log, when it cannot be followed. */
  readonly load: () => StandaloneSetup | undefined;
  /** Read: MARGAY_BGPMETRICS… (metrics.ts), MARGAY_BGPMAX… (limits.ts). */
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
  const metricsSettings = readMetricsSettings(env);
  const speaker = new Speaker(setup.config, { clock, log, limits: readLimits(env) });
  const control = setup.control === undefined ? undefined : new Control(speaker, log);
  const feed = setup.routes === undefined ? undefined : new Feed(speaker, log);
  let metrics: Server | undefined;
  try {
    if (setup.control !== undefined) await control?.listen(directoryMade(setup.control));
    if (setup.routes !== undefined) await feed?.listen(directoryMade(setup.routes));
    metrics = metricsSettings && (await serveMetrics(() => speaker.peers(), metricsSettings, log));
    await speaker.start();
    const { asn, identifier, listenPort } = setup.config;
    log.info({ asn, identifier, port: listenPort, peers: setup.config.peers.length }, 'BGP speaker runs alone');
    await follow(options, speaker);
  } finally {
    await speaker.stop('shutdown');
    metrics?.close();
    metrics?.closeAllConnections();
    control?.close();
    feed?.close();
  }
}

async function follow({ setup, reload, load, log, signal }: AloneOptions, speaker: Speaker): Promise<void> {
  while (await reload.wait(undefined, signal)) {
    const next = load();
    if (!next) continue;
    if (next.control !== setup.control || next.routes !== setup.routes)
      log.warn('control and routes, the paths of the sockets, change only by a restart');
    try {
      await speaker.apply(next.config);
      log.info({ peers: next.config.peers.length }, 'configuration applied');
    } catch (thrown) {
      if (!(thrown instanceof EnvironmentError)) throw thrown;
      log.error({ reason: explain(thrown) }, 'configuration not applied; the last one stays');
    }
  }
}

function directoryMade(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  return path;
}
