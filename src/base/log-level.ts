import { InputError } from './errors.ts';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Calico's names and pino's, in any letter case, as pino's. @throws InputError naming `field` */
export function parseLevel(text: string, field: string): string {
  const level = text.toLowerCase().replace('warning', 'warn').replace('none', 'silent');
  if (!levels.includes(level)) throw new InputError(field, text, `one of ${levels.join(', ')}`);
  return level;
}
