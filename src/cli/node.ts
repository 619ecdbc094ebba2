import { Backoff } from '../base/backoff.ts';
import { pause, systemClock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import { createLog, type Log } from '../base/log.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import { StoreUnavailableError } from '../datastore/store.ts';
import { idleVariables } from './calico-environment.ts';
import { type Environment, hasBgp, logLevel, nodename } from './environment.ts';
import { felixHeap } from './heap.ts';
import { checkBgp, checkFelix } from './preflight.ts';
import { poolsFrom, startup } from './startup.ts';
import { stopSignal, supervise } from './supervisor.ts';

/** `margay startup`: once; fails when the datastore does not answer, waits while it is locked. */
export async function runStartup(env: Environment): Promise<void> {
  const log = createLog('startup', logLevel(env));
  warnOfIdle(env, log);
  const store = openStore(readStoreConfig(env), log);
  try {
    await startup({ store, env, clock: systemClock, log, signal: stopSignal(env) });
  } finally {
    store.close();
  }
}

/** `margay node`: start-up, as often as it takes for the datastore to answer; then felix and, unless the networking backend is another, bgp until told to stop. */
export async function runNode(env: NodeJS.ProcessEnv): Promise<void> {
  const log = createLog('node', logLevel(env));
  warnOfIdle(env, log);
  nodename(env);
  poolsFrom(env);
  checkFelix(env);
  const bgp = hasBgp(env);
  if (bgp) checkBgp();
  const signal = stopSignal(env);
  await startupWhenReachable(env, log, signal);
  if (signal.aborted) return;
  const script = process.argv[1] ?? '';
  const programs = (bgp ? ['felix', 'bgp'] : ['felix']).map((name) => ({
    name,
    command: process.execPath,
    args: [...process.execArgv, ...(name === 'felix' ? felixHeap : []), script, name],
    env,
  }));
  await supervise(programs, { clock: systemClock, log, signal });
  log.info('stopped; what is in the kernel stays and goes on forwarding');
}

async function startupWhenReachable(env: Environment, log: Log, signal: AbortSignal): Promise<void> {
  const store = openStore(readStoreConfig(env), log);
  const backoff = new Backoff(250, 15_000);
  try {
    while (!signal.aborted) {
      try {
        return await startup({ store, env, clock: systemClock, log, signal });
      } catch (thrown) {
        if (signal.aborted) return;
        if (!(thrown instanceof StoreUnavailableError)) throw thrown;
        const delay = backoff.next();
        log.warn({ error: explain(thrown), retryInMs: delay }, 'the datastore does not answer; trying again');
        await pause(systemClock, delay, signal);
      }
    }
  } finally {
    store.close();
  }
}

/** Says once which settings have no effect, such as those of a manifest of Calico's. */
function warnOfIdle(env: Environment, log: Log): void {
  const variables = idleVariables(env);
  if (variables.length > 0) log.warn({ variables }, 'these settings have no effect');
}
