import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.ts';

/** How an etcd differs from the plain one of one member. */
export interface EtcdSetup {
  /** PEM files of the server; with `trustedCaFile`, clients must show a certificate it signed. */
  readonly tls?: { readonly certificateFile: string; readonly keyFile: string; readonly trustedCaFile?: string };
  /** Further options of its command line. */
  readonly options?: readonly string[];
}

/** The addresses of one member, and all members' for `--initial-cluster`. */
interface Place {
  readonly name: string;
  readonly endpoint: string;
  readonly metricsUrl: string;
  readonly peerUrl: string;
  readonly cluster: string;
}

/** A real etcd of this test process alone. */
export interface TestEtcd {
  /** `http://127.0.0.1:<port>`, `https` with TLS */
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
export async function startEtcd(setup: EtcdSetup = {}): Promise<TestEtcd> {
  const [place] = await places(1, setup);
  if (place === undefined) throw new Error('no place for etcd');
  return startMember(place, setup);
}

/** Starts a cluster of `count` members. */
export async function startEtcdCluster(count: number, setup: EtcdSetup = {}): Promise<readonly TestEtcd[]> {
  const starts = await Promise.allSettled((await places(count, setup)).map((place) => startMember(place, setup)));
  const members = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
  const failed = starts.find((start) => start.status === 'rejected');
  if (failed === undefined) return members;
  await Promise.all(members.map((member) => member.stop()));
  throw failed.reason;
}

async function places(count: number, { tls }: EtcdSetup): Promise<Place[]> {
  const ports = await freePorts(3 * count);
  const url = (scheme: string, at: number) => `${scheme}://127.0.0.1:${ports[at]}`;
  const names = Array.from({ length: count }, (_, at) => `test${at}`);
  const cluster = names.map((name, at) => `${name}=${url('http', 3 * at)}`).join(',');
  return names.map((name, at) => ({
    name,
    cluster,
    peerUrl: url('http', 3 * at),
    metricsUrl: url('http', 3 * at + 1),
    endpoint: url(tls ? 'https' : 'http', 3 * at + 2),
  }));
}

async function startMember(place: Place, setup: EtcdSetup): Promise<TestEtcd> {
  const data = await mkdtemp(join(tmpdir(), 'margay-etcd-'));
  const { endpoint } = place;
  let child: ChildProcess | undefined;
  let output = '';

  const killOnExit = () => child?.kill('SIGKILL');
  process.on('exit', killOnExit);

  const start = async () => {
    output = '';
    const started = spawn('etcd', argumentsFor(data, place, setup), { stdio: ['ignore', 'ignore', 'pipe'] });
    child = started;
    started.stderr?.on('data', (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-4000);
    });
    await Promise.race([
      until(() => healthy(place.metricsUrl), { within: 30_000, what: `etcd at ${endpoint}` }),
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

/** Durability is no matter here, so syncing to disk is left out. Health is asked over plain HTTP, whatever clients use. */
function argumentsFor(data: string, place: Place, { tls, options = [] }: EtcdSetup): string[] {
  const { name, endpoint, metricsUrl, peerUrl, cluster } = place;
  return [
    ...['--name', name, '--data-dir', data, '--log-level', 'error', '--unsafe-no-fsync'],
    ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
    ...['--listen-metrics-urls', metricsUrl],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
    ...['--heartbeat-interval', '20', '--election-timeout', '200'],
    ...['--initial-cluster', cluster, '--initial-cluster-state', 'new'],
    ...(tls ? ['--cert-file', tls.certificateFile, '--key-file', tls.keyFile] : []),
    ...(tls?.trustedCaFile === undefined ? [] : ['--client-cert-auth', '--trusted-ca-file', tls.trustedCaFile]),
    ...options,
  ];
}

async function healthy(metricsUrl: string): Promise<boolean> {
  const answer = await fetch(`${metricsUrl}/health`, { signal: AbortSignal.timeout(1000) });
  return answer.ok && ((await answer.json()) as { health?: string }).health === 'true';
}

/** Ports that nobody listened on a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
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
