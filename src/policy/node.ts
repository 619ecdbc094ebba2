import { InputError } from '../base/errors.ts';
import { type Cidr, hostCidr, parseIp, splitCidr } from '../model/address.ts';
import type { Node } from '../model/kinds.ts';
import { kindLabel, nodeKind } from '../model/selector.ts';
import type { LabelMap } from './labels.ts';
import type { EndpointFacts } from './members.ts';

/** A node as the other end of rules: its labels, and every address that it has; names of hosts are left out. */
export function nodeOf({ metadata, spec }: Node): { readonly labels: LabelMap; readonly facts: EndpointFacts } {
  const texts = [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address, ...(spec.addresses ?? []).map(({ address }) => address)];
  const addresses = texts.flatMap((text) => (text === undefined ? [] : readable(text)));
  return {
    labels: new Map([...Object.entries(metadata.labels ?? {}), [kindLabel, nodeKind]]),
    facts: { addresses: [...new Set(addresses)], ports: [] },
  };
}

/** `10.0.0.1/24` or a bare address. */
function readable(text: string): Cidr[] {
  try {
    return [hostCidr(text.includes('/') ? splitCidr(text).address : parseIp(text))];
  } catch (thrown) {
    if (thrown instanceof InputError) return [];
    throw thrown;
  }
}
