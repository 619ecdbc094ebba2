import { createHash } from 'node:crypto';
import { InputError } from '../../base/errors.ts';
import { type Cidr, cidrParts, parseCidr } from '../../model/address.ts';
import { ownerParts } from '../../model/ipam.ts';

/* Names of IPAM's resources, as Calico makes them. */

/** Longest name of an object. */
const longest = 253;

/** `10.65.3.64/26` → `10-65-3-64-26`, `fd00:65::40/122` → `fd00-65--40-122` */
export function cidrName(cidr: Cidr): string {
  return cidr.replace(/[.:/]/g, '-');
}

/** The inverse; undefined for what is no prefix's name. */
export function parseCidrName(name: string): Cidr | undefined {
  const dash = name.lastIndexOf('-');
  const address = name.slice(0, dash);
  const text = `${/^\d+(-\d+){3}$/.test(address) ? address.replaceAll('-', '.') : address.replaceAll('-', ':')}`;
  try {
    const cidr = parseCidr(`${text}/${name.slice(dash + 1)}`);
    return cidrName(cidr) === name ? cidr : undefined;
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}

/** `<node>-<cidrname>`; for a node of a very long name its beginning, the prefix, and a digest of both. */
export function affinityName(owner: string, cidr: Cidr): string {
  const { name: host } = ownerParts(owner);
  const block = cidrName(cidr);
  const name = `${host}-${block}`;
  if (name.length < longest) return name;
  const digest = createHash('sha256').update(`${host}+${block}`).digest('hex').slice(0, 11);
  return `${host.slice(0, longest - 1 - block.length - 13)}-${block}-${digest}`;
}

/** Labels by which a node finds its own affinities. */
export function affinityLabels(owner: string, cidr: Cidr): Record<string, string> {
  const { type, name: host } = ownerParts(owner);
  return {
    'projectcalico.org/affinity-type': type,
    'projectcalico.org/ip-version': String(cidrParts(cidr).family),
    'projectcalico.org/hostname-hash': hostnameHash(host),
  };
}

/** Unpadded base32 (RFC 4648) of SHA3-256: a node's name may be longer than a label's value. */
export function hostnameHash(host: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of createHash('sha3-256').update(host).digest()) {
    value = (value << 8) | byte;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += alphabet[(value >> (bits - 5)) & 31];
    value &= (1 << bits) - 1;
  }
  return bits > 0 ? text + alphabet[(value << (5 - bits)) & 31] : text;
}

/** Handles' names are lower case; the resource holds the ID as it was given. */
export function handleName(id: string): string {
  return id.toLowerCase();
}
