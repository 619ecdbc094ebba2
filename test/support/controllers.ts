import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { type RunOptions, runControllers } from '../../src/controllers/run.ts';
import { until } from './wait.ts';

/** Elections that take a second instead of a quarter of a minute. */
const times = { leaseSeconds: 2, deadlineSeconds: 1.5, retrySeconds: 0.2 };

export interface RunningControllers {
  /** Ends it as SIGTERM does. */
  stop(): Promise<void>;
  /** The value of a metric, with its labels as Prometheus writes them; undefined when there is none. */
  metric(name: string): Promise<number | undefined>;
  probe(path: string): Promise<number>;
}

/** A process's worth of controllers in this one, on ports of its own. */
export async function startControllers(
  options: Pick<RunOptions, 'store' | 'cluster' | 'lease' | 'env' | 'identity'>,
): Promise<RunningControllers> {
  const over = new AbortController();
  let ports: { readonly health?: number; readonly metrics?: number } = {};
  const done = runControllers({
    ...options,
    ...{
      healthPort: 0,
      metricsPort: 0,
      clock: systemClock,
      log: createLog('test', 'silent'),
      signal: over.signal,
      times,
    },
    onListening: (found) => {
      ports = found;
    },
  });
  const failure = done.then(() => undefined);
  failure.catch(() => over.abort());
  const at = (port: number | undefined, path: string) => `http://127.0.0.1:${port}${path}`;
  const running: RunningControllers = {
    stop: async () => {
      over.abort();
      await done;
    },
    probe: async (path) => (await fetch(at(ports.health, path))).status,
    metric: async (name) => {
      const text = await (await fetch(at(ports.metrics, '/metrics'))).text();
      const line = text.split('\n').find((each) => each.startsWith(`${name} `));
      return line === undefined ? undefined : Number(line.slice(name.length + 1));
    },
  };
  await until(() => ports.health !== undefined && ports.metrics !== undefined, { within: 10_000, what: 'ports' });
  return running;
}
