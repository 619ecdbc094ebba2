import type { Registry } from 'prom-client';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listening } from '../base/serve.ts';
import type { FelixConfig } from './config.ts';
import { serveHealth } from './health.ts';
import type { Felix } from './main.ts';
import { Metrics, serveMetrics } from './metrics.ts';

type Name = 'health' | 'metrics';

/** The health and metrics servers as the configuration wants them; a changed setting takes effect at once. */
export class Servers {
  readonly #open = new Map<Name, { readonly place: string; readonly server: Listening }>();
  #turn: Promise<void> = Promise.resolve();
  readonly #metrics: Metrics;

  constructor(
    private readonly felix: Felix,
    private readonly log: Log,
    register: (registry: Registry) => void = () => undefined,
  ) {
    this.#metrics = new Metrics(() => felix.counts());
    register(this.#metrics.registry);
    felix.onPass(({ milliseconds, failures }) => this.#metrics.applied(milliseconds, failures > 0));
  }

  /** @throws EnvironmentError when an address cannot be listened on */
  apply(config: FelixConfig): Promise<void> {
    const turn = this.#turn.then(async () => {
      const { healthHost, healthPort, watchdogSeconds, metricsHost, metricsPort } = config;
      await this.#place(
        'health',
        config.healthEnabled ? `${healthHost} ${healthPort} ${watchdogSeconds}` : undefined,
        () => serveHealth(this.felix, healthHost, healthPort, this.log, watchdogSeconds),
      );
      await this.#place('metrics', config.metricsEnabled ? `${metricsHost} ${metricsPort}` : undefined, () =>
        serveMetrics(this.#metrics, metricsHost, metricsPort, this.log),
      );
    });
    this.#turn = turn.catch((thrown: unknown) =>
      this.log.error({ error: explain(thrown) }, 'the health or metrics server could not be started'),
    );
    return turn;
  }

  /** As `apply`; a server that cannot be started is logged, and the dataplane goes on without it. */
  async follow(config: FelixConfig): Promise<void> {
    await Promise.allSettled([this.apply(config)]);
  }

  async close(): Promise<void> {
    await this.#turn;
    await Promise.all([...this.#open.values()].map(({ server }) => server.close()));
  }

  async #place(name: Name, place: string | undefined, start: () => Promise<Listening>): Promise<void> {
    const open = this.#open.get(name);
    if (open?.place === place) return;
    await open?.server.close();
    this.#open.delete(name);
    if (place !== undefined) this.#open.set(name, { place, server: await start() });
  }
}
