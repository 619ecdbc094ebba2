import { InputError } from '../base/errors.ts';
import { numberOf } from './limits.ts';

/** Where metrics are served. */
export interface MetricsSettings {
  readonly host: string;
  readonly port: number;
}

export const defaultMetrics: MetricsSettings = { host: 'localhost', port: 9324 };

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * MARGAY_BGPMETRICSENABLED (default false), MARGAY_BGPMETRICSHOST (localhost), MARGAY_BGPMETRICSPORT (9324, that of
 * bird_exporter); what they do not say is as in the file, where there is one. Undefined: not wanted.
 * @throws InputError that names the variable
 */
export function readMetricsSettings(env: Environment, file?: MetricsSettings): MetricsSettings | undefined {
  const enabled = (env['MARGAY_BGPMETRICSENABLED'] ?? '').toLowerCase();
  if (!['', 'true', 'false'].includes(enabled))
    throw new InputError('MARGAY_BGPMETRICSENABLED', enabled, 'true or false');
  if (enabled === 'false' || (enabled === '' && !file)) return undefined;
  return {
    host: env['MARGAY_BGPMETRICSHOST'] || file?.host || defaultMetrics.host,
    port: numberOf(env, 'MARGAY_BGPMETRICSPORT', 1, 65_535) ?? file?.port ?? defaultMetrics.port,
  };
}
