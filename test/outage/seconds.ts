import { InputError } from '../../src/base/errors.ts';

/** How long `npm run test:outage` takes the datastore away: MARGAY_OUTAGE_SECONDS, or ten minutes. */
export const seconds = parse(process.env['MARGAY_OUTAGE_SECONDS'] ?? '600');

function parse(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 1) throw new InputError('MARGAY_OUTAGE_SECONDS', text, 'a number of seconds');
  return value;
}
