import { InputError } from '../base/errors.ts';

export type Family = 4 | 6;

/** Canonical address text: dotted quad, or RFC 5952. Only this file makes one. */
export type Ip = string & { readonly brand: 'Ip' };
/** Canonical prefix text `address/length`, host bits zero. Only this file makes one. */
export type Cidr = string & { readonly brand: 'Cidr' };

export function familyOf(address: Ip | Cidr): Family {
  return address.includes(':') ? 6 : 4;
}

/** fe80::/10: it means something only together with a device. RFC 4291 §2.5.6. */
export function isLinkLocal(address: Ip): boolean {
  return /^fe[89ab].:/.test(address);
}

/** Octets in an address of the family. */
export function octets(family: Family): 4 | 16 {
  return family === 4 ? 4 : 16;
}

/** Bits in an address of the family. */
export function bits(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** Any textual IPv4 or IPv6 address → canonical text. @throws InputError naming `field` */
export function parseIp(text: string, field = 'address'): Ip {
  return formatIp(ipBytes(text, field));
}

/** Network-order octets (4 or 16) of a textual address. @throws InputError naming `field` */
export function ipBytes(text: string, field = 'address'): Uint8Array {
  if (typeof text !== 'string') throw new InputError(field, text, 'an IP address');
  const four = text.includes(':') ? undefined : parse4(text);
  if (four) return four;
  const six = parse6(text.includes('.') ? withoutQuad(text) : text);
  if (six) return six;
  throw new InputError(field, text, 'an IP address');
}

/** Octets (4 or 16, network order) → canonical text (RFC 5952 for IPv6). */
export function formatIp(address: Uint8Array): Ip {
  if (address.length === 4) return `${address[0]}.${address[1]}.${address[2]}.${address[3]}` as Ip;
  return format6(address) as Ip;
}

export interface Prefix {
  readonly address: Ip;
  readonly length: number;
  readonly family: Family;
}

/** `address/length`; host bits are kept. @throws InputError */
export function splitCidr(text: string, field = 'cidr'): Prefix {
  const slash = typeof text === 'string' ? text.indexOf('/') : -1;
  if (slash < 0) throw new InputError(field, text, 'a prefix such as 10.0.0.0/8 or fd00::/64');
  const address = parseIp(text.slice(0, slash), field);
  const family = familyOf(address);
  const digits = text.slice(slash + 1);
  const length = /^\d{1,3}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!(length <= bits(family))) throw new InputError(field, text, `a prefix length of at most ${bits(family)}`);
  return { address, length, family };
}

/** Prefix text → canonical, host bits cleared. A bare address becomes /32 or /128. @throws InputError */
export function parseCidr(text: string, field = 'cidr'): Cidr {
  if (typeof text === 'string' && !text.includes('/')) return hostCidr(parseIp(text, field));
  const { address, length } = splitCidr(text, field);
  return cidrOf(ipBytes(address), length);
}

/** Octets and length → canonical prefix, host bits cleared. */
export function cidrOf(address: Uint8Array, length: number): Cidr {
  const masked = Uint8Array.from(address);
  for (let i = 0; i < masked.length; i++) {
    const keep = Math.min(8, Math.max(0, length - i * 8));
    masked[i] = (masked[i] ?? 0) & (0xff << (8 - keep)) & 0xff;
  }
  return `${formatIp(masked)}/${length}` as Cidr;
}

/** The /32 or /128 of an address. */
export function hostCidr(address: Ip): Cidr {
  return `${address}/${bits(familyOf(address))}` as Cidr;
}

/** The address of a prefix, and its length. */
export function cidrParts(cidr: Cidr): Prefix {
  const slash = cidr.indexOf('/');
  return { address: cidr.slice(0, slash) as Ip, length: Number(cidr.slice(slash + 1)), family: familyOf(cidr) };
}

/** An address as an unsigned integer (32 or 128 bits). */
export function ipNumber(address: Ip): bigint {
  let value = 0n;
  for (const octet of ipBytes(address)) value = (value << 8n) | BigInt(octet);
  return value;
}

/** The inverse of `ipNumber`. */
export function ipFromNumber(value: bigint, family: Family): Ip {
  const out = new Uint8Array(octets(family));
  for (let i = out.length - 1, rest = value; i >= 0; i--, rest >>= 8n) out[i] = Number(rest & 0xffn);
  return formatIp(out);
}

/** Whether `inner` (an address or a prefix) lies wholly in `outer`. */
export function contains(outer: Cidr, inner: Ip | Cidr): boolean {
  if (familyOf(outer) !== familyOf(inner)) return false;
  const prefix = cidrParts(outer);
  const other = inner.includes('/') ? cidrParts(inner as Cidr) : cidrParts(hostCidr(inner as Ip));
  if (other.length < prefix.length) return false;
  const shift = BigInt(bits(prefix.family) - prefix.length);
  return ipNumber(prefix.address) >> shift === ipNumber(other.address) >> shift;
}

/** Numeric order; IPv4 before IPv6. */
export function compareIp(a: Ip, b: Ip): number {
  const byFamily = familyOf(a) - familyOf(b);
  if (byFamily !== 0) return byFamily;
  const x = ipBytes(a);
  const y = ipBytes(b);
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return (x[i] ?? 0) - (y[i] ?? 0);
  return 0;
}

/** A quad of plain decimals and nothing shorter, which is what everything else understands. */
function parse4(text: string): Uint8Array | undefined {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text)) return undefined;
  const octets = text.split('.').map(Number);
  return octets.every((octet) => octet <= 255) ? Uint8Array.from(octets) : undefined;
}

/** `::ffff:10.0.0.1` → `::ffff:a00:1`: RFC 4291 §2.2, form 3. All else as it is. */
function withoutQuad(text: string): string {
  const colon = text.lastIndexOf(':') + 1;
  const quad = colon > 0 ? parse4(text.slice(colon)) : undefined;
  if (!quad) return text;
  const [a = 0, b = 0, c = 0, d = 0] = quad;
  return `${text.slice(0, colon)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** Hexadecimal groups with or without `::`. */
function parse6(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f:]{2,39}$/i.test(text)) return undefined;
  const [head = '', tail, more] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail ? tail.split(':') : [];
  const count = left.length + right.length;
  if (more !== undefined || (tail === undefined ? count !== 8 : count > 7)) return undefined;
  const out = new Uint8Array(16);
  for (const [i, group] of [...left, ...right].entries()) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    const at = 2 * (i < left.length ? i : i + 8 - count);
    const value = Number.parseInt(group, 16);
    out[at] = value >> 8;
    out[at + 1] = value & 0xff;
  }
  return out;
}

/** RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as `::`. */
function format6(address: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((address[i] ?? 0) << 8) | (address[i + 1] ?? 0));
  let start = 0;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
    if (end > i) i = end;
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':');
  if (length === 1) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}
