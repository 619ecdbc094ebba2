import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pause, systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { ask } from '../../src/cli/control.ts';
import { felixHeap } from '../../src/cli/heap.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import type { FelixStatus } from '../../src/felix/status.ts';
import { openNetlinkIn } from '../../src/kernel/namespace.ts';
import { programs } from '../../src/lab/cluster.ts';
import { until } from '../../src/lab/wait.ts';
import { ipFromNumber } from '../../src/model/address.ts';
import { usageOf } from '../bgp/usage.ts';
import type { Figure } from '../figure.ts';
import { endpointKey, endpointOf, node, nodeOf, poolOf, profileOf, serveFeed } from './agent.ts';
import { type Space, withSpace } from './space.ts';

/** Of the project. */
const targetMiB = 250;
const deadlineMs = 120_000;
/** Longer than felix waits before it uses an idle moment for its own purposes. */
const restMs = 1500;

/**
 * The largest that `margay felix`, a process like any node's on a real etcd, has been in memory when it has programmed
 * 100,000 routes of BGP and 500 pods and is at rest.
 */
export async function measureMemory(runs: number, signal: AbortSignal): Promise<Figure> {
  const [routes, pods] = [100_000, 500];
  const ours: number[] = [];
  for (let round = 0; round < runs; round++)
    await withSpace((peers) =>
      withSpace((space) =>
        withDirectory(async (directory) => {
          await devices(space, peers, pods);
          await fill(directory, pods, signal);
          ours.push(await grown(space, directory, { routes, pods }, signal));
        }),
      ),
    );
  return { name: 'felix-memory', unit: 'MiB', ours, peer: ours.map(() => targetMiB), peerName: 'target' };
}

async function withDirectory(action: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'margay-bench-'));
  try {
    await action(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The pods' devices; their other ends are in one more namespace. */
async function devices(space: Space, peers: Space, count: number): Promise<void> {
  const [host, inside] = [openNetlinkIn(space.path), openNetlinkIn(peers.path)];
  try {
    for (let at = 0; at < count; at++) {
      host.addVeth({
        ...{ hostName: `cali${at}`, podName: `pod${at}`, netns: peers.path, mtu: 1500, hostMac: 'ee:ee:ee:ee:ee:ee' },
      });
      inside.setLink(`pod${at}`, { up: true });
    }
  } finally {
    host.close();
    inside.close();
  }
}

/** Writes the cluster by an etcd within reach; felix finds it by another one, in its namespace, on the same data. */
async function fill(directory: string, pods: number, signal: AbortSignal): Promise<void> {
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  await withProcess(etcd(directory, endpoint, []), async () => {
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [endpoint] }, createLog('bench', 'error'));
    try {
      await until('etcd answers', deadlineMs, signal, async () => {
        await store.create({ type: 'Profile', name: 'kns.shop' }, profileOf('kns.shop'));
        return {};
      });
      await store.create({ type: 'IPPool', name: 'p' }, poolOf('10.64.0.0/10', 'Never'));
      await store.create({ type: 'Node', name: node }, nodeOf(node, '192.0.2.1/24', '10.64.0.1'));
      for (let at = 0; at < pods; at++) {
        const address = ipFromNumber(0x0a410000n + BigInt(at), 4);
        await store.create(endpointKey(`p${at}`), endpointOf(`p${at}`, `cali${at}`, address));
      }
    } finally {
      store.close();
    }
  });
}

/** @returns MiB */
async function grown(
  space: Space,
  directory: string,
  { routes, pods }: { readonly routes: number; readonly pods: number },
  signal: AbortSignal,
): Promise<number> {
  const inside = [`--net=${space.path}`];
  const endpoint = 'http://127.0.0.1:2379';
  const server = await serveFeed(directory, routes, '192.0.2.2');
  try {
    return await withProcess(etcd(directory, endpoint, inside), () => {
      const args = [
        ...inside,
        process.execPath,
        ...process.execArgv,
        ...felixHeap,
        join(programs, 'margay.js'),
        'felix',
      ];
      const env = {
        ...process.env,
        ...{ NODENAME: node, ETCD_ENDPOINTS: endpoint, MARGAY_RUN_DIR: directory, FELIX_LOGSEVERITYSCREEN: 'error' },
        XTABLES_LOCKFILE: join(directory, 'xtables.lock'),
      };
      return withProcess(spawn('nsenter', args, { env, stdio: 'inherit' }), async (felix) => {
        await until('all routes and pods', deadlineMs, signal, async () => {
          const { length } = (await space.exec('ip', 'route', 'show', 'proto', '80')).split('\n');
          const { endpoints } = (await ask(directory, 'felix', '/v1/status')) as FelixStatus;
          const done = endpoints.filter(({ state }) => state === 'programmed').length;
          return length > routes && done === pods ? {} : `${length} routes, ${done} pods`;
        });
        const { pid = 0 } = felix;
        await until('felix is at rest', deadlineMs, signal, async () => {
          const before = usageOf(pid).cpuSeconds;
          await pause(systemClock, restMs, signal);
          const share = (usageOf(pid).cpuSeconds - before) / (restMs / 1000);
          return share < 0.05 ? {} : `it uses ${Math.round(share * 100)} % of a processor`;
        });
        return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
      });
    });
  } finally {
    server.stop();
  }
}

/** @param inside options of nsenter; none: in this process's namespace */
function etcd(directory: string, endpoint: string, inside: readonly string[]): ChildProcess {
  const args = ['--data-dir', join(directory, 'etcd'), '--log-level', 'error'];
  args.push(
    '--listen-client-urls',
    endpoint,
    '--advertise-client-urls',
    endpoint,
    '--listen-peer-urls',
    'http://127.0.0.1:0',
  );
  return inside.length === 0
    ? spawn('etcd', args, { stdio: 'inherit' })
    : spawn('nsenter', [...inside, 'etcd', ...args], { stdio: 'inherit' });
}

/** Ends it whatever happens. */
async function withProcess<T>(child: ChildProcess, action: (child: ChildProcess) => Promise<T>): Promise<T> {
  const ended = once(child, 'exit');
  try {
    return await action(child);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
