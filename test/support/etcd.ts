import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.ts';

/** A real etcd of this test process alone. */
export interface TestEtcd {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
  /** Ends it as a power cut would; the data stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data, and waits until it answers. */
  restart(): Promise<void>;
  /** Stops it from running (`SIGSTOP`), as a hung machine would, and lets it go on. */
  freeze(): void;
  thaw(): void;
}

/** Starts /usr/bin/etcd on free loopback ports with its data in a directory of its own; it ends with the test process. */
export async function startEtcd(): Promise<TestEtcd> {
  const data = await mkdtemp(join(tmpdir(), 'margay-etcd-'));
  const [client, peer] = await freePorts(2);
  const endpoint = `http://127.0.0.1:${client}`;
  const peerUrl = `http://127.0.0.1:${peer}`;
  let child: ChildProcess | undefined;
  let output = '';

  const killOnExit = () => child?.kill('SIGKILL');
  process.on('exit', killOnExit);

  const start = async () => {
    output = '';
    const started = spawn('etcd', argumentsFor(data, endpoint, peerUrl), { stdio: ['ignore', 'ignore', 'pipe'] });
    child = started;
    started.stderr?.on('data', (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-4000);
    });
    await Promise.race([
      until(() => healthy(endpoint), { within: 30_000, what: `etcd at ${endpoint}` }),
      once(started, 'error').then(([cause]) => Promise.reject(new Error('etcd did not start', { cause }))),
      once(started, 'exit').then(() => Promise.reject(new Error(`etcd ended: ${output}`))),
    ]);
  };
  const kill = async () => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = once(running, 'exit');
    running.kill('SIGKILL');
    await gone;
  };
  const stop = async () => {
    process.off('exit', killOnExit);
    await kill();
    await rm(data, { recursive: true, force: true });
  };

  try {
    await start();
  } catch (thrown) {
    await stop();
    throw thrown;
  }
  return {
    endpoint,
    stop,
    kill,
    restart: async () => {
      await kill();
      await start();
    },
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
  };
}

/** Durability is no matter here, so syncing to disk is left out. */
function argumentsFor(data: string, endpoint: string, peerUrl: string): string[] {
  return [
    ...['--name', 'test', '--data-dir', data, '--log-level', 'error', '--unsafe-no-fsync'],
    ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
    ...['--heartbeat-interval', '20', '--election-timeout', '200'],
    ...['--initial-cluster', `test=${peerUrl}`, '--initial-cluster-state', 'new'],
  ];
}

async function healthy(endpoint: string): Promise<boolean> {
  const answer = await fetch(`${endpoint}/health`, { signal: AbortSignal.timeout(1000) });
  return answer.ok && ((await answer.json()) as { health?: string }).health === 'true';
}

/** Ports that nobody listened on a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(async (server) => {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
