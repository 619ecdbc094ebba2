import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { root } from '../kernel/bundle.ts';
import { FelixProgram } from './program.ts';
import { RealNode } from './support.ts';

/* What a running felix tells Prometheus, beside the list of Calico's names and the page that says which are left out. */

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
}

const reference: { metrics: readonly Metric[] } = JSON.parse(
  readFileSync(join(root, 'test/fixtures/felix-metrics.json'), 'utf8'),
);
const page = readFileSync(join(root, 'docs/metrics.md'), 'utf8');

let n: RealNode;
let felix: FelixProgram | undefined;
afterEach(async () => {
  await felix?.dispose();
  await n.dispose();
});

/** Name → its type, its samples' labels, and its samples, of Prometheus' text format. */
function parse(text: string): Map<string, { type: string; labels: Set<string>; samples: Map<string, number> }> {
  const found = new Map<string, { type: string; labels: Set<string>; samples: Map<string, number> }>();
  for (const line of text.split('\n')) {
    const declared = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (declared?.[1] && declared[2])
      found.set(declared[1], { type: declared[2], labels: new Set(), samples: new Map() });
    const sample = /^([a-z]\w*?)(_sum|_count)?(\{.*\})? (\S+)$/.exec(line);
    if (!sample) continue;
    const [, name = '', suffix = '', labels = '', value] = sample;
    const metric = found.get(name) ?? found.get(`${name}${suffix}`);
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) if (label !== 'quantile') metric?.labels.add(label);
    metric?.samples.set(`${suffix}${labels}`, Number(value));
  }
  return found;
}

test("a running felix has Calico's metrics, by name, type and labels, but those that the page says it lacks", async () => {
  n = await RealNode.make('nft');
  await n.addPod('calia', '10.65.0.2');
  felix = await FelixProgram.build(n, 'nft', { a: '10.65.0.2' });
  await felix.launch({ FELIX_PROMETHEUSMETRICSENABLED: 'true', FELIX_PROMETHEUSMETRICSHOST: '127.0.0.1' }).standing;
  const script = "fetch('http://127.0.0.1:9091/metrics').then((r) => r.text()).then((t) => process.stdout.write(t))";
  const found = parse(await n.namespace.exec(process.execPath, '-e', script));
  const lacking = new Set(page.slice(page.indexOf('## Not there')).match(/`felix_\w+`/g) ?? []);
  for (const { name, type, labels } of reference.metrics) {
    const metric = found.get(name);
    expect(lacking.has(`\`${name}\``), `${name} is on the page of what is lacking`).toBe(metric === undefined);
    if (metric) expect({ name, type: metric.type, labels: [...metric.labels].sort() }).toEqual({ name, type, labels });
    if (metric?.type === 'summary')
      for (const quantile of ['0.5', '0.9', '0.99'])
        expect(metric.samples.has(`{quantile="${quantile}"}`), `${name} ${quantile}`).toBe(true);
  }
  const value = (name: string, sample = '') => found.get(name)?.samples.get(sample) ?? Number.NaN;
  // Wired: what must have happened by now has been counted.
  for (const [name, sample] of [
    ['felix_active_local_endpoints'],
    ['felix_calc_graph_update_time_seconds', '_count'],
    ['felix_calc_graph_updates_processed', '{type="WorkloadEndpoint"}'],
    ['felix_exec_time_micros', '_count'],
    ['felix_host', '{host="n1"}'],
    ['felix_int_dataplane_apply_time_seconds', '_count'],
    ['felix_int_dataplane_initial_resync_time_seconds'],
    ['felix_iptables_restore_calls'],
    ['felix_iptables_save_calls'],
    ['felix_label_index_num_endpoints'],
    ['felix_resyncs_started'],
    ['felix_route_table_list_seconds', '_count'],
  ] as const)
    expect(value(name, sample), `${name}${sample ?? ''}`).toBeGreaterThan(0);
});
