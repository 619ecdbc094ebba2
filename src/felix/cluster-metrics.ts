import { Counter, Gauge, type Registry } from 'prom-client';
import type { Type } from '../datastore/store.ts';

/** Calico's names for what the datastore holds, and the kinds that each counts. */
const gauges: readonly { readonly name: string; readonly help: string; readonly types: readonly Type[] }[] = [
  {
    name: 'felix_cluster_num_workload_endpoints',
    help: 'Total number of workload endpoints cluster-wide.',
    types: ['WorkloadEndpoint'],
  },
  {
    name: 'felix_cluster_num_host_endpoints',
    help: 'Total number of host endpoints cluster-wide.',
    types: ['HostEndpoint'],
  },
  {
    name: 'felix_cluster_num_policies',
    help: 'Total number of policies in the cluster.',
    types: ['NetworkPolicy', 'GlobalNetworkPolicy'],
  },
  { name: 'felix_cluster_num_profiles', help: 'Total number of profiles in the cluster.', types: ['Profile'] },
  { name: 'felix_cluster_num_tiers', help: 'Total number of tiers in the cluster.', types: ['Tier'] },
];

/**
 * Registers them, and how often everything was listed.
 * @param counts objects by kind, asked once a scrape for each name
 */
export function registerCluster(
  registry: Registry,
  counts: () => ReadonlyMap<Type, number>,
  resyncs: () => number,
): void {
  const registers = [registry];
  for (const { name, help, types } of gauges)
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const now = counts();
        this.set(types.reduce((sum, type) => sum + (now.get(type) ?? 0), 0));
      },
    });
  new Counter({
    name: 'felix_resyncs_started',
    help: 'Number of times Felix has started resyncing with the datastore.',
    registers,
    collect() {
      this.reset();
      this.inc(resyncs());
    },
  });
}
