import type { Clock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import { type Log, parseLevel } from '../base/log.ts';
import type { Listening } from '../base/serve.ts';
import type { LeaseStore } from '../datastore/lease.ts';
import type { Store, Type } from '../datastore/store.ts';
import { sync } from '../datastore/syncer.ts';
import type { Consumer } from '../datastore/update.ts';
import type { KubeControllersConfiguration } from '../model/kinds.ts';
import { Auditor } from './auditor.ts';
import { Controllers } from './controllers.ts';
import { copiedTypes } from './copying.ts';
import { campaign, type ElectionTimes } from './election.ts';
import { LoadBalancers } from './load-balancers.ts';
import { ControllerMetrics } from './metrics.ts';
import { Performer } from './perform.ts';
import { serveHealth, serveMetrics } from './serve.ts';
import { readSettings, type Settings } from './settings.ts';

export interface RunOptions {
  /** Where Calico's objects are. */
  readonly store: Store;
  /** Kubernetes' own objects, where they are not in the same store. */
  readonly cluster?: Store;
  readonly lease: LeaseStore;
  /** Of this process alone. */
  readonly identity: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** 0: a free one. */
  readonly healthPort: number;
  /** In place of the settings'; 0: a free one. */
  readonly metricsPort?: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly times?: ElectionTimes;
  /** Told the ports that are listened on. */
  readonly onListening?: (ports: { readonly health?: number; readonly metrics?: number }) => void;
}

const configuration = { type: 'KubeControllersConfiguration', name: 'default' } as const;
const always = [
  'ClusterInformation',
  'KubeControllersConfiguration',
  'Node',
  'HostEndpoint',
  'IPPool',
  'IPReservation',
] as const;

/** What is followed in the datastore and in Kubernetes. */
export const followed = {
  kubernetes: [...always, 'Service'] satisfies readonly Type[],
  store: [
    ...always,
    ...copiedTypes,
    'WorkloadEndpoint',
    'BGPPeer',
    'FelixConfiguration',
    'BGPConfiguration',
  ] satisfies readonly Type[],
  cluster: ['Node', 'WorkloadEndpoint', ...copiedTypes] satisfies readonly Type[],
} as const;

/**
 * The controllers until the signal aborts: every process follows what there is, and the elected one acts.
 * @throws InputError naming a variable, EnvironmentError when a port cannot be had
 */
export async function runControllers(options: RunOptions): Promise<void> {
  const { store, cluster = store, clock, log, env } = options;
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  const metrics = new ControllerMetrics();
  const control = new Control(env, log);
  const controllers = new Controllers({
    ...{ metrics, clock, log, settings: () => control.settings },
    performer: new Performer({ store, cluster, clock, log }),
    auditor: new Auditor({ store, clock, log, metrics }),
    loadBalancers: new LoadBalancers({ store, cluster, clock, log, metrics }),
    copies: options.cluster !== undefined,
  });
  const servers = new Servers(options, metrics, {
    hangs: () => (controllers.hangs ? 'a pass takes more than ten minutes' : undefined),
    waitsFor: () => waiting(controllers),
  });
  await servers.follow(control.settings);
  const follow = (from: Store, types: readonly Type[], consumer: Consumer) =>
    sync({ store: from, types, consumer, clock, log, signal });
  const onStore: Consumer = (update) => {
    controllers.store.consume(update);
    if (!controllers.store.inSync) return;
    const known = controllers.store.known(configuration);
    if (known && 'invalid' in known) return;
    const resource = known?.entry.value as KubeControllersConfiguration | undefined;
    if (!control.take(resource)) return;
    servers.followLater(control.settings);
    controllers.reconsider();
  };
  const parts = [
    follow(store, options.cluster ? followed.store : followed.kubernetes, onStore),
    ...(options.cluster && controllers.cluster
      ? [follow(options.cluster, followed.cluster, controllers.cluster.consume)]
      : []),
    campaign({
      ...{ lease: options.lease, identity: options.identity, clock, log, signal },
      ...(options.times && { times: options.times }),
      lead: (leading) => controllers.lead(leading),
      onLook: (leads) => metrics.leads(leads),
    }),
  ];
  try {
    await Promise.all(parts);
  } finally {
    over.abort();
    await Promise.allSettled(parts);
    await servers.close();
  }
}

function waiting(controllers: Controllers): string | undefined {
  if (!controllers.ready) return 'not everything has been read yet';
  return controllers.connected ? undefined : 'a datastore cannot be reached';
}

/** The settings of the moment; one line for every one that has no effect. */
class Control {
  #settings: Settings;
  #mark = '';
  readonly #warned = new Set<string>();

  /** @throws InputError naming a variable */
  constructor(
    private readonly env: RunOptions['env'],
    private readonly log: Log,
  ) {
    this.#settings = readSettings(env).settings;
    this.take(undefined);
  }

  get settings(): Settings {
    return this.#settings;
  }

  /** Whether they are others now. */
  take(resource: KubeControllersConfiguration | undefined): boolean {
    const { settings, ignored } = readSettings(this.env, resource);
    for (const field of ignored)
      if (!this.#warned.has(field)) {
        this.#warned.add(field);
        this.log.warn({ field }, 'a setting without effect');
      }
    const mark = JSON.stringify(settings);
    if (mark === this.#mark) return false;
    this.#mark = mark;
    this.#settings = settings;
    this.#setLevel(settings.logLevel);
    this.log.info({ settings }, 'settings');
    return true;
  }

  #setLevel(level: string): void {
    try {
      if (this.log.level !== 'silent') this.log.level = parseLevel(level, 'LOG_LEVEL');
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      this.log.warn({ reason: thrown.message }, 'the log level stays');
    }
  }
}

/** The ports of probes and metrics, as the settings want them. */
class Servers {
  readonly #open = new Map<'health' | 'metrics', { readonly port: number; readonly server: Listening }>();
  #turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: RunOptions,
    private readonly metrics: ControllerMetrics,
    private readonly health: Parameters<typeof serveHealth>[0],
  ) {}

  /** @throws EnvironmentError */
  async follow({ health, metricsPort }: Settings): Promise<void> {
    const { healthPort, log } = this.options;
    await this.#place('health', health ? healthPort : undefined, (port) => serveHealth(this.health, port, log));
    const port = this.options.metricsPort ?? (metricsPort || undefined);
    await this.#place('metrics', port, (at) => serveMetrics(this.metrics, at, log));
    const ports = [...this.#open].map(([name, { server }]) => [name, server.port] as const);
    this.options.onListening?.(Object.fromEntries(ports));
  }

  /** As `follow`; what cannot be had is logged, and the rest goes on. */
  followLater(settings: Settings): void {
    this.#turn = this.#turn
      .then(() => this.follow(settings))
      .catch((thrown: unknown) => this.options.log.error({ reason: explain(thrown) }, 'no port for probes or metrics'));
  }

  async close(): Promise<void> {
    await this.#turn;
    await Promise.all([...this.#open.values()].map(({ server }) => server.close()));
  }

  async #place(
    name: 'health' | 'metrics',
    port: number | undefined,
    start: (port: number) => Promise<Listening>,
  ): Promise<void> {
    const open = this.#open.get(name);
    if (open?.port === port) return;
    await open?.server.close();
    this.#open.delete(name);
    if (port !== undefined) this.#open.set(name, { port, server: await start(port) });
  }
}
