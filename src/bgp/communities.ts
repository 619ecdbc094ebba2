import { InputError } from '../base/errors.ts';
import { familyOf, ipBytes, parseIp } from '../model/address.ts';

/** Kept long over a peer's restart: a route of last resort; and routes that do not want that. RFC 9494 §4.6. */
export const llgrStale = 0xffff0006;
export const noLlgr = 0xffff0007;

/** Sub-types of extended communities that have a name. RFC 4360 §4, §5. */
const subtypes: Readonly<Record<string, number>> = { rt: 0x02, ro: 0x03 };

/**
 * An extended community as its eight octets in hexadecimal: `rt:65000:100` and `ro:65000:100` (route target and origin,
 * RFC 4360), also with an AS number of four octets (RFC 5668) or an IPv4 address, or the sixteen digits themselves.
 * @throws InputError naming `field`
 */
export function parseExtendedCommunity(text: string, field = 'extendedCommunity'): string {
  if (/^[0-9a-f]{16}$/i.test(text)) return text.toLowerCase();
  const [name = '', administrator = '', number = '', ...more] = text.split(':');
  const subtype = subtypes[name];
  const value = /^\d{1,10}$/.test(number) ? Number(number) : Number.NaN;
  const octets = subtype === undefined || more.length > 0 ? undefined : extended(subtype, administrator, value);
  if (octets) return octets.toString('hex');
  throw new InputError(field, text, 'an extended community: rt:65000:100, ro:10.0.0.1:5 or 16 hexadecimal digits');
}

/** Two octets for the number, but four beside an AS number of two. */
function extended(subtype: number, administrator: string, value: number): Buffer | undefined {
  const octets = Buffer.alloc(8);
  octets[1] = subtype;
  const asn = /^\d{1,10}$/.test(administrator) ? Number(administrator) : undefined;
  const short = asn !== undefined && asn <= 0xffff;
  if (!(value <= (short ? 0xffffffff : 0xffff))) return undefined;
  if (short) {
    octets.writeUInt16BE(asn, 2);
    octets.writeUInt32BE(value, 4);
    return octets;
  }
  octets[0] = asn === undefined ? 0x01 : 0x02;
  octets.writeUInt16BE(value, 6);
  if (asn !== undefined) {
    if (asn > 0xffffffff) return undefined;
    octets.writeUInt32BE(asn, 2);
    return octets;
  }
  const address = addressOctets(administrator);
  if (address) octets.set(address, 2);
  return address && octets;
}

function addressOctets(text: string): Uint8Array | undefined {
  try {
    const address = parseIp(text);
    return familyOf(address) === 4 ? ipBytes(address) : undefined;
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
