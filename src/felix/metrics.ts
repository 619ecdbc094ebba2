import { createServer } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Registry, Summary } from 'prom-client';
import { type Listening, listening } from './health.ts';

/** What a scrape asks of the agent. */
export interface Counts {
  readonly endpoints: number;
  /** Nodes of the cluster with an address, this one too. */
  readonly hosts: number;
  readonly policies: number;
  readonly routes: ReadonlyMap<'local' | 'remote', number>;
  /** IP version (`4`) → sets. */
  readonly sets: ReadonlyMap<string, number>;
  /** IP version and table → chains and rules. */
  readonly tables: readonly { readonly version: string; readonly table: string; chains: number; rules: number }[];
  readonly inSync: boolean;
  /** Device of a wanted tunnel → whether it is up. */
  readonly tunnels: ReadonlyMap<string, boolean>;
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
    labelled('felix_routes', 'Number of routes wanted in the main table.', ['source'], ({ routes }, gauge) => {
      for (const [source, value] of routes) gauge.set({ source }, value);
    });
  }
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}

/** `GET /metrics` in Prometheus' text format. @throws EnvironmentError when the port cannot be had */
export function serveMetrics(metrics: Metrics, host: string, port: number): Promise<Listening> {
  const server = createServer(async (request, response) => {
    if (new URL(request.url ?? '/', 'http://felix').pathname !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('expected /metrics\n');
      return;
    }
    const text = await metrics.registry.metrics();
    response.writeHead(200, { 'content-type': metrics.registry.contentType });
    response.end(text);
  });
  return listening(server, host, port, 'FELIX_PROMETHEUSMETRICSPORT');
}
