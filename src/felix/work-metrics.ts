import { Counter, Gauge, type Registry, Summary } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import type { Update } from '../datastore/update.ts';
import type { LabelStats } from '../policy/labels.ts';
import type { LastApply } from './status.ts';

/** As in Calico's summaries: quantiles of the last ten minutes. */
const window = { percentiles: [0.5, 0.9, 0.99], maxAgeSeconds: 600, ageBuckets: 5 };

/** Calico's names for how felix works: what it was told, and how long that took. Others call; a scrape reads. */
export class WorkMetrics {
  readonly #calculation = new Summary({
    name: 'felix_calc_graph_update_time_seconds',
    help: 'Seconds to update the calculation for what the datastore told at once.',
    ...window,
    registers: [],
  });
  readonly #routes = new Summary({
    name: 'felix_route_table_list_seconds',
    help: 'Time taken to list the routes of the main table and compare them during a resync.',
    ...window,
    registers: [],
  });
  readonly #starts = new Summary({
    name: 'felix_exec_time_micros',
    help: 'Summary of time taken to fork/exec child processes, in microseconds.',
    ...window,
    registers: [],
  });
  readonly #firstPass = new Gauge({
    name: 'felix_int_dataplane_initial_resync_time_seconds',
    help: 'Time in seconds that the first pass over the dataplane took; 0 before its end.',
    registers: [],
  });
  readonly #updates = new Map<string, number>();
  #resyncs = 0;
  #hasPassed = false;

  constructor(private readonly clock: Clock) {}

  /** For `FelixDependencies.calculated`. */
  readonly calculated = (milliseconds: number): void => this.#calculation.observe(milliseconds / 1000);

  /** For `FelixDependencies.readingRoutes`. */
  readonly readingRoutes = async (read: () => Promise<void>): Promise<void> => {
    const began = this.clock.monotonic();
    await read();
    this.#routes.observe((this.clock.monotonic() - began) / 1000);
  };

  /** For `KernelCalls.started`. */
  readonly started = (microseconds: number): void => this.#starts.observe(microseconds);

  /** For `Felix.onUpdate`. */
  readonly consume = (update: Update): void => {
    if (update.op === 'listed') this.#resyncs++;
    if (update.op !== 'events') return;
    for (const event of update.events) {
      const { type } = event.op === 'delete' ? event.key : event.entry.key;
      this.#updates.set(type, (this.#updates.get(type) ?? 0) + 1);
    }
  };

  /** For `Felix.onPass`. */
  readonly passed = ({ milliseconds }: LastApply): void => {
    if (!this.#hasPassed) this.#firstPass.set(milliseconds / 1000);
    this.#hasPassed = true;
  };

  /** How often everything was listed. */
  readonly resyncs = (): number => this.#resyncs;

  /** @param labels of the selectors of active rules */
  register(registry: Registry, node: string, labels: () => LabelStats): void {
    for (const one of [this.#calculation, this.#routes, this.#starts, this.#firstPass]) registry.registerMetric(one);
    const registers = [registry];
    const updates = this.#updates;
    new Counter({
      name: 'felix_calc_graph_updates_processed',
      help: 'Number of datastore updates processed, by kind of object.',
      labelNames: ['type'],
      registers,
      collect() {
        this.reset();
        for (const [type, count] of updates) this.inc({ type }, count);
      },
    });
    new Gauge({ name: 'felix_host', help: 'The node that Felix runs on.', labelNames: ['host'], registers }).set(
      { host: node },
      1,
    );
    registerLabels(registry, labels);
  }
}

function registerLabels(registry: Registry, labels: () => LabelStats): void {
  const registers = [registry];
  const plain = (name: string, help: string, value: (stats: LabelStats) => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value(labels()));
      },
    });
  plain('felix_active_local_selectors', 'Number of active selectors on this host.', (now) => now.pinned + now.unpinned);
  plain('felix_label_index_num_endpoints', 'Number of objects that selectors are tried on.', (now) => now.items);
  new Gauge({
    name: 'felix_label_index_num_active_selectors',
    help: 'Number of active selectors, by whether they demand a label that leads to what they select.',
    labelNames: ['optimized'],
    registers,
    collect() {
      const { pinned, unpinned } = labels();
      this.set({ optimized: 'true' }, pinned);
      this.set({ optimized: 'false' }, unpinned);
    },
  });
  new Counter({
    name: 'felix_label_index_selector_evals',
    help: 'Number of times that a selector was tried on an object, by result.',
    labelNames: ['result'],
    registers,
    collect() {
      const { matched, unmatched } = labels();
      this.reset();
      this.inc({ result: 'true' }, matched);
      this.inc({ result: 'false' }, unmatched);
    },
  });
}
