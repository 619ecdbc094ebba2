import { type Ip, ipBytes } from '../../model/address.ts';

/** Addresses whose octets are remembered: next hops, originators and clusters are few and come again and again. */
const rememberedAddresses = 4096;
const addressOctets = new Map<Ip, Uint8Array>();

/** The octets of an address, shared: not to be written to. */
export function octetsOf(address: Ip): Uint8Array {
  const known = addressOctets.get(address);
  if (known) return known;
  const octets = ipBytes(address);
  if (addressOctets.size >= rememberedAddresses) addressOctets.clear();
  addressOctets.set(address, octets);
  return octets;
}
