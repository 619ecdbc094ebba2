import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EnvironmentError } from '../../../src/base/errors.ts';
import type { Type } from '../../../src/datastore/store.ts';
import { registerCluster } from '../../../src/felix/cluster-metrics.ts';
import { claimRunDir, serveControl } from '../../../src/felix/control.ts';
import { serveHealth } from '../../../src/felix/health.ts';
import { Metrics, registerCalls, serveMetrics } from '../../../src/felix/metrics.ts';
import { countKernelCalls } from '../../../src/kernel/calls.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, Harness, silent } from './support.ts';

let runDir: string;
beforeEach(() => {
  runDir = mkdtempSync(path.join(tmpdir(), 'felix-'));
});
afterEach(() => rmSync(runDir, { recursive: true }));

function ask(
  options: { socketPath: string } | { port: number },
  wanted: string,
): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    get({ ...options, path: wanted }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text) => {
        body += String(text);
      });
      response.on('end', () => resolve({ code: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
}

test('the control socket answers with the status and its parts, to root only', async () => {
  const h = new Harness();
  h.start();
  try {
    const socketPath = path.join(h.runDir, 'felix.sock');
    await until(() => h.felix.status().lastApply, { within: 5_000, what: 'first pass' });
    const status = JSON.parse((await ask({ socketPath }, '/v1/status')).body);
    expect(status).toMatchObject({
      node: 'n1',
      inSync: true,
      tunnels: [],
      datastore: { connected: true },
      failures: [],
    });
    expect(JSON.parse((await ask({ socketPath }, '/v1/endpoints')).body)).toEqual([]);
    expect(JSON.parse((await ask({ socketPath }, '/v1/routes')).body)).toMatchObject({ list: [] });
    expect(await ask({ socketPath }, '/v1/constructor')).toMatchObject({ code: 404 });
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  } finally {
    await h.dispose();
  }
});

test('a thousand routes come in pieces that make one answer', async () => {
  const h = new Harness();
  const blocks = Array.from({ length: 1000 }, (_, at) => `10.${70 + (at >> 8)}.${at & 255}.0/26`);
  h.start();
  try {
    const socketPath = path.join(h.runDir, 'felix.sock');
    await until(() => h.felix.status().lastApply, { within: 5_000, what: 'first pass' });
    for (const [at, cidr] of blocks.entries())
      await h.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, at % 2 === 0 ? 'n1' : 'n2'));
    await until(() => h.felix.status().routes.counts.blackhole === 500, { within: 5_000, what: 'the blocks' });
    const { counts, list } = JSON.parse((await ask({ socketPath }, '/v1/routes')).body);
    expect(counts).toEqual(h.felix.status().routes.counts);
    expect(new Set(list.map(({ destination }: { destination: string }) => destination))).toEqual(
      new Set(blocks.filter((_, at) => at % 2 === 0)),
    );
  } finally {
    await h.dispose();
  }
});

test('a socket that a dead process left is taken over', async () => {
  writeFileSync(path.join(runDir, 'felix.sock'), '');
  const server = await serveControl(runDir, () => ({}) as never, silent);
  await expect(serveControl(runDir, () => ({}) as never, silent)).rejects.toThrow(/another felix/);
  await server.close();
});

test('a folder that cannot be made is an error with a remedy', async () => {
  const file = path.join(runDir, 'file');
  writeFileSync(file, '');
  await expect(serveControl(file, () => ({}) as never, silent)).rejects.toThrow(EnvironmentError);
});

test('the folder of the sockets is made, and refused while another felix has it', async () => {
  const fresh = path.join(runDir, 'a/b');
  expect(await claimRunDir(fresh)).toBe(path.join(fresh, 'felix.sock'));
  const server = await serveControl(fresh, () => ({}) as never, silent);
  await expect(claimRunDir(fresh)).rejects.toThrow(/another felix already serves .*; stop it first/);
  await server.close();
});

test('probes say yes or no with the reason', async () => {
  let alive = true;
  const server = await serveHealth({ alive: () => alive, ready: () => false }, '127.0.0.1', 0, silent);
  try {
    expect(await ask({ port: server.port }, '/liveness')).toMatchObject({ code: 200 });
    expect(await ask({ port: server.port }, '/readiness')).toMatchObject({
      code: 503,
      body: 'not everything is applied\n',
    });
    alive = false;
    expect(await ask({ port: server.port }, '/liveness')).toMatchObject({ code: 503 });
    expect(await ask({ port: server.port }, '/')).toMatchObject({ code: 404 });
    await expect(
      serveHealth({ alive: () => true, ready: () => true }, '127.0.0.1', server.port, silent),
    ).rejects.toThrow(/FELIX_HEALTHPORT/);
  } finally {
    await server.close();
  }
});

test("metrics carry Calico's names", async () => {
  const metrics = new Metrics(() => ({
    endpoints: 2,
    hosts: 7,
    policies: 1,
    invalid: new Map([['NetworkPolicy', 2]]),
    inSync: true,
    staleSeconds: 4.5,
    tunnels: new Map([['tunl0', false]]),
    routes: new Map([['local', 3]]),
    sets: new Map([['4', 5]]),
    tables: [{ version: '4', table: 'filter', chains: 6, rules: 7 }],
    carried: { sent: 8 },
  }));
  const calls = countKernelCalls();
  registerCalls(metrics.registry, calls);
  Object.assign(calls.restore, { calls: 4, errors: 1 });
  Object.assign(calls.save, { calls: 3, errors: 2 });
  Object.assign(calls.ipset, { calls: 9, errors: 5 });
  calls.ipsetLines = 12;
  calls.lines.set('6 raw', 11);
  const stored = new Map<Type, number>([
    ['WorkloadEndpoint', 30],
    ['NetworkPolicy', 4],
    ['GlobalNetworkPolicy', 2],
    ['Tier', 3],
  ]);
  registerCluster(
    metrics.registry,
    () => stored,
    () => 5,
  );
  metrics.applied(12, true);
  const server = await serveMetrics(metrics, '127.0.0.1', 0, silent);
  try {
    const { body } = await ask({ port: server.port }, '/metrics');
    for (const line of [
      'felix_active_local_endpoints 2',
      'felix_active_local_policies 1',
      'felix_cluster_num_hosts 7',
      'felix_ipsets_total 5',
      'felix_route_table_num_routes{table="254"} 3',
      'felix_resync_state 3',
      'margay_felix_datastore_stale_seconds 4.5',
      'margay_felix_invalid_objects{kind="NetworkPolicy"} 2',
      'margay_felix_tunnel_up{device="tunl0"} 0',
      'felix_ipsets_calico{ip_version="4"} 5',
      'felix_iptables_chains{ip_version="4",table="filter"} 6',
      'felix_iptables_rules{ip_version="4",table="filter"} 7',
      'felix_routes{source="local"} 3',
      'felix_int_dataplane_failures 1',
      'felix_int_dataplane_apply_time_seconds_count 1',
      'felix_iptables_restore_calls 4',
      'felix_iptables_restore_errors 1',
      'felix_iptables_save_calls 3',
      'felix_iptables_save_errors 2',
      'felix_iptables_lines_executed{ip_version="6",table="raw"} 11',
      'felix_ipset_calls 9',
      'felix_ipset_errors 5',
      'felix_ipset_lines_executed 12',
      'felix_cluster_num_workload_endpoints 30',
      'felix_cluster_num_host_endpoints 0',
      'felix_cluster_num_policies 6',
      'felix_cluster_num_tiers 3',
      'felix_resyncs_started 5',
      'margay_felix_udp_tunnel_packets{outcome="sent"} 8',
    ])
      expect(body).toContain(`${line}\n`);
  } finally {
    await server.close();
  }
});
