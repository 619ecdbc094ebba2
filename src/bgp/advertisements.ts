import { type Cidr, contains, parseCidr } from '../model/address.ts';
import { isCommunity } from '../model/bgp.ts';
import type { Problem } from './config.ts';
import { parseCommunity } from './filter-resource.ts';
import { withCommunity } from './filters.ts';
import type { Objects } from './objects.ts';
import type { OwnAttributes, SpeakerConfig } from './settings.ts';
import type { Attributes } from './wire/attributes.ts';

/**
 * `prefixAdvertisements` with the names of communities resolved; one that cannot be is left out and named. A node's own
 * BGPConfiguration, `node.<name>`, stands in for the common one where it has any.
 */
export function announcedWith(
  { configuration, nodeConfigurations }: Objects,
  nodename: string,
  problems: Problem[],
): Pick<SpeakerConfig, 'advertisements'> {
  const own = nodeConfigurations.get(nodename);
  const object = own?.spec.prefixAdvertisements.length ? own : configuration;
  const named = [...(configuration?.spec.communities ?? []), ...(own?.spec.communities ?? [])];
  const values = new Map(named.map(({ name, value }) => [name, value]));
  const advertisements = (object?.spec.prefixAdvertisements ?? []).map(({ cidr, communities: names }) => ({
    cidr: parseCidr(cidr),
    communities: names.flatMap((name) => {
      const text = values.get(name) ?? name;
      if (isCommunity(text)) return [parseCommunity(text)];
      const detail = `${name} is neither a community nor the name of one`;
      problems.push({
        object: `BGPConfiguration(${object?.metadata.name}).spec.prefixAdvertisements(${cidr})`,
        detail,
      });
      return [];
    }),
  }));
  return advertisements.length > 0 ? { advertisements } : {};
}

/** Of a prefix that this node announces as its own: what it carries, with the communities of every range that it is in. */
export function ownAttributes(
  prefix: Cidr,
  advertisements: SpeakerConfig['advertisements'] = [],
  own: OwnAttributes = {},
): Attributes {
  const { communities = [], ...rest } = own;
  const inherited = advertisements.flatMap((range) => (contains(range.cidr, prefix) ? range.communities : []));
  return [...communities, ...inherited].reduce<Attributes>(withCommunity, { origin: 'igp', asPath: [], ...rest });
}
