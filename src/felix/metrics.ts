import { Counter, collectDefaultMetrics, Gauge, Registry, Summary } from 'prom-client';
import type { Log } from '../base/log.ts';
import { exposing, type Listening, serve } from '../base/serve.ts';
import type { KernelCalls } from '../kernel/calls.ts';

/** What a scrape asks of the agent. */
export interface Counts {
  readonly endpoints: number;
  /** Nodes of the cluster with an address, this one too. */
  readonly hosts: number;
  readonly policies: number;
  /** Kind → stored objects with something wrong in them. */
  readonly invalid: ReadonlyMap<string, number>;
  readonly routes: ReadonlyMap<'local' | 'remote', number>;
  /** IP version (`4`) → sets. */
  readonly sets: ReadonlyMap<string, number>;
  /** IP version and table → chains and rules. */
  readonly tables: readonly { readonly version: string; readonly table: string; chains: number; rules: number }[];
  readonly inSync: boolean;
  /** Seconds since the datastore was lost; 0 while it is there. */
  readonly staleSeconds: number;
  /** Device of a wanted tunnel → whether it is up. */
  readonly tunnels: ReadonlyMap<string, boolean>;
  /** What became of packets that felix itself carries. */
  readonly carried: Readonly<Record<string, number>>;
}

/** Makes counters without labels, whose value is asked for by each scrape. */
export function plainCounters(registry: Registry) {
  return (name: string, help: string, value: () => number) =>
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
}

/** Calico's names for what iptables and ipset were asked, as the drivers counted it. */
export function registerCalls(registry: Registry, calls: KernelCalls): void {
  const registers = [registry];
  const plain = plainCounters(registry);
  plain('felix_iptables_restore_calls', 'Number of iptables-restore calls.', () => calls.restore.calls);
  plain('felix_iptables_restore_errors', 'Number of iptables-restore errors.', () => calls.restore.errors);
  plain('felix_iptables_save_calls', 'Number of iptables-save calls.', () => calls.save.calls);
  plain('felix_iptables_save_errors', 'Number of iptables-save errors.', () => calls.save.errors);
  plain('felix_ipset_calls', 'Number of ipset commands executed.', () => calls.ipset.calls);
  plain('felix_ipset_errors', 'Number of ipset command failures.', () => calls.ipset.errors);
  plain('felix_ipset_lines_executed', 'Number of ipset operations executed.', () => calls.ipsetLines);
  new Counter({
    name: 'felix_iptables_lines_executed',
    help: 'Number of iptables rule updates executed.',
    labelNames: ['ip_version', 'table'],
    registers,
    collect() {
      this.reset();
      for (const [key, count] of calls.lines) {
        const [version = '', table = ''] = key.split(' ');
        this.inc({ ip_version: version, table }, count);
      }
    },
  });
}

/** Calico's names, as far as the agent can fill them honestly. */
export class Metrics {
  readonly registry = new Registry();
  readonly #applyTime: Summary;
  readonly #failures: Counter;

  constructor(counts: () => Counts) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#applyTime = new Summary({
      name: 'felix_int_dataplane_apply_time_seconds',
      help: 'Time in seconds that it took to apply a dataplane update.',
      percentiles: [0.5, 0.9, 0.99],
      maxAgeSeconds: 600,
      ageBuckets: 5,
      registers,
    });
    this.#failures = new Counter({
      name: 'felix_int_dataplane_failures',
      help: 'Number of times dataplane updates failed and will be retried.',
      registers,
    });
    this.#gauges(counts);
  }

  /** Takes note of a pass. */
  applied(milliseconds: number, failed: boolean): void {
    this.#applyTime.observe(milliseconds / 1000);
    if (failed) this.#failures.inc();
  }

  #gauges(counts: () => Counts): void {
    const registers = [this.registry];
    const plain = (name: string, help: string, value: (now: Counts) => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value(counts()));
        },
      });
    plain('felix_active_local_endpoints', 'Number of active endpoints on this host.', (now) => now.endpoints);
    plain('felix_active_local_policies', 'Number of active policies on this host.', (now) => now.policies);
    plain('felix_cluster_num_hosts', 'Total number of hosts in the cluster.', (now) => now.hosts);
    plain('felix_resync_state', 'Current datastore state: 2 resync in progress, 3 in sync.', (now) =>
      now.inSync ? 3 : 2,
    );
    plain(
      'margay_felix_datastore_stale_seconds',
      'Seconds since the datastore was lost, while what is known stays in force; 0 while it is there.',
      (now) => now.staleSeconds,
    );
    const labelled = (name: string, help: string, labelNames: string[], fill: (now: Counts, gauge: Gauge) => void) =>
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          fill(counts(), this);
        },
      });
    plain('felix_ipsets_total', 'Number of active IP sets of both families.', ({ sets }) => sum(sets.values()));
    labelled(
      'margay_felix_invalid_objects',
      'Number of stored objects with something wrong in them, which are treated as more strict or left as they were.',
      ['kind'],
      ({ invalid }, gauge) => {
        for (const [kind, count] of invalid) gauge.set({ kind }, count);
      },
    );
    labelled(
      'felix_route_table_num_routes',
      'Number of routes that Felix wants in the table.',
      ['table'],
      ({ routes }, gauge) => gauge.set({ table: '254' }, sum(routes.values())),
    );
    labelled('felix_ipsets_calico', 'Number of active IP sets.', ['ip_version'], ({ sets }, gauge) => {
      for (const [version, value] of sets) gauge.set({ ip_version: version }, value);
    });
    labelled(
      'felix_iptables_chains',
      'Number of active iptables chains.',
      ['ip_version', 'table'],
      ({ tables }, gauge) => {
        for (const { version, table, chains } of tables) gauge.set({ ip_version: version, table }, chains);
      },
    );
    labelled(
      'felix_iptables_rules',
      'Number of active iptables rules.',
      ['ip_version', 'table'],
      ({ tables }, gauge) => {
        for (const { version, table, rules } of tables) gauge.set({ ip_version: version, table }, rules);
      },
    );
    labelled(
      'margay_felix_tunnel_up',
      'Whether a tunnel device that a pool wants is up; 0 also when the kernel has no such tunnels.',
      ['device'],
      ({ tunnels }, gauge) => {
        for (const [device, up] of tunnels) gauge.set({ device }, up ? 1 : 0);
      },
    );
    new Counter({
      name: 'margay_felix_udp_tunnel_packets',
      help: 'Number of packets of the userspace tunnel, by what became of them.',
      labelNames: ['outcome'],
      registers,
      collect() {
        this.reset();
        for (const [outcome, count] of Object.entries(counts().carried)) this.inc({ outcome }, count);
      },
    });
    labelled('felix_routes', 'Number of routes wanted in the main table.', ['source'], ({ routes }, gauge) => {
      for (const [source, value] of routes) gauge.set({ source }, value);
    });
  }
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}

/** `GET /metrics`. @throws EnvironmentError when the port cannot be had */
export function serveMetrics({ registry }: Metrics, host: string, port: number, log: Log): Promise<Listening> {
  const answers = exposing(() => registry.metrics(), registry.contentType, log);
  return serve(answers, { host, port, setting: 'FELIX_PROMETHEUSMETRICSPORT' }, log);
}
