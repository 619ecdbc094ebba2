import { parseLevel } from '../base/log.ts';
import type { Objects } from './objects.ts';

/**
 * The speaker's log level in pino's words: of the node's own BGPConfiguration, or the common one, unless the environment
 * has one.
 * @param own the level that the process started with
 */
export function logLevelOf(
  { configuration, nodeConfigurations }: Pick<Objects, 'configuration' | 'nodeConfigurations'>,
  nodename: string,
  env: Readonly<Record<string, string | undefined>>,
  own: string,
): string {
  if (env['MARGAY_LOG_LEVEL'] || env['CALICO_STARTUP_LOGLEVEL']) return own;
  const node = nodeConfigurations.get(nodename)?.spec.logSeverityScreen;
  const text = node ?? configuration?.spec.logSeverityScreen;
  return text === undefined ? own : parseLevel(text, 'BGPConfiguration.spec.logSeverityScreen');
}
