import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import { GoneError, StoreUnavailableError } from '../datastore/store.ts';
import type { Deps } from './apply.ts';
import type { Environment } from './environment.ts';
import { asUsage } from './explain.ts';
import { type Format, parseFormat } from './output.ts';

/**
 * Opens the datastore for one command. Wrong input ends with the usage code, for 1 is an answer of many commands.
 * @param env names the datastore
 */
export function runOnStore(
  { output }: { readonly output?: string },
  action: (deps: Deps, format: Format) => Promise<void>,
  env: Environment = process.env,
): Promise<void> {
  return asUsage(async () => {
    const format = parseFormat(output);
    const log = createLog('margayctl', process.env['MARGAY_LOG_LEVEL'] || 'error');
    const store = openStore(readStoreConfig(env), log);
    try {
      await action({ store, clock: systemClock, log }, format);
    } catch (thrown) {
      if (thrown instanceof GoneError)
        throw new StoreUnavailableError('the datastore was compacted while it was read; try again', { cause: thrown });
      throw thrown;
    } finally {
      store.close();
    }
  });
}
