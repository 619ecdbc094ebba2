import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { runBgp } from '../bgp/main.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import { logLevel, nodename, runDir } from './environment.ts';
import { checkBgp } from './preflight.ts';
import { stopSignal } from './supervisor.ts';

/** `margay bgp`: the BGP speaker, until told to stop; neighbours keep its routes over a restart. */
export async function runBgpProgram(env: NodeJS.ProcessEnv): Promise<void> {
  const log = createLog('bgp', logLevel(env));
  const node = nodename(env);
  checkBgp();
  const signal = stopSignal(env);
  const store = openStore(readStoreConfig(env), log);
  try {
    await runBgp({ store, nodename: node, runDir: runDir(env), env, log, clock: systemClock, signal });
  } finally {
    store.close();
  }
}
