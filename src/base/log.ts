import { type DestinationStream, type Logger, pino } from 'pino';
import { parseLevel } from './log-level.ts';

export { parseLevel } from './log-level.ts';

export type Log = Logger;

/** Paths that hold secrets wherever they turn up in a logged object. */
const secrets = ['password', '*.password', '*.*.password', 'token', '*.token', 'ETCD_PASSWORD', '*.ETCD_PASSWORD'];

/**
 * One JSON line a record on standard error (or `destination`), secrets redacted.
 * @param level Calico's names (`Info`, `WARNING`) and pino's are both taken
 */
export function createLog(name: string, level = 'info', destination: DestinationStream = pino.destination(2)): Log {
  const wanted = parseLevel(level, 'log level');
  return pino(
    {
      name,
      level: wanted,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secrets, censor: '[redacted]' },
    },
    destination,
  );
}
