import { InputError } from '../base/errors.ts';
import type { Key } from '../datastore/store.ts';
import type { Cidr } from '../model/address.ts';
import { parseNet } from '../model/policy.ts';
import { namespaceLabel } from '../model/selector.ts';
import { type Labelled, unclaimed } from './endpoint.ts';

/**
 * A network set as a member of IP sets. Takes a stored value that did not pass the checks, too: the prefixes that can
 * be read count, since leaving out all would open what a Deny rule closes.
 * @param value the resource, or whatever is stored in its place
 */
export function networkSetOf(
  text: string,
  { namespace }: Key<'NetworkSet'> | Key<'GlobalNetworkSet'>,
  value: unknown,
): Labelled {
  const { metadata, spec } = record(value);
  const nets = record(spec)['nets'];
  const own = Object.entries(record(record(metadata)['labels'])).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  const labels = unclaimed(Object.fromEntries(own));
  if (namespace !== undefined) labels.set(namespaceLabel, namespace);
  return {
    key: text,
    profiles: namespace === undefined ? [] : [`kns.${namespace}`],
    labels,
    facts: { addresses: Array.isArray(nets) ? nets.flatMap(readableNet) : [], ports: [] },
  };
}

function readableNet(net: unknown): Cidr[] {
  if (typeof net !== 'string') return [];
  try {
    return [parseNet(net)];
  } catch (thrown) {
    if (thrown instanceof InputError) return [];
    throw thrown;
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
