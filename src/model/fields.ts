import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { parseCidr, parseIp } from './address.ts';

/* Fields that many kinds have. */

export const cidr = z.string().refine(accepts(parseCidr), 'expected a prefix such as 10.0.0.0/8 or fd00::/64');
export const ip = z.string().refine(accepts(parseIp), 'expected an IP address');

function accepts(parse: (text: string) => unknown): (text: string) => boolean {
  return (text) => {
    try {
      parse(text);
      return true;
    } catch (thrown) {
      if (thrown instanceof InputError) return false;
      throw thrown;
    }
  };
}
