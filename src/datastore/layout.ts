import { InputError } from '../base/errors.ts';
import { type Cidr, cidrParts, familyOf, parseCidr } from '../model/address.ts';
import { ownerParts } from '../model/ipam.ts';
import { isKind, type Kind, kinds } from '../model/kinds.ts';
import type { Key, Other, Report, Scope, Type } from './store.ts';

/* Where Calico keeps each object in etcd v3. Keys are exact to the byte: Calico's own clients read them too. */

const resources = '/calico/resources/v3/projectcalico.org/';
const blocks = '/calico/ipam/v2/assignment/';
const hosts = '/calico/ipam/v2/host/';
const virtual = '/calico/ipam/v2/virtual/';
const handles = '/calico/ipam/v2/handle/';
const config = '/calico/ipam/v2/config';

const kindOfPlural = new Map<string, Kind>(
  Object.entries(kinds).flatMap(([kind, { plural }]) => (isKind(kind) ? [[plural, kind] as const] : [])),
);

/** Key → etcd key. @throws InputError for a name that would leave its place in the tree */
export function etcdKey(key: Key): string {
  switch (key.type) {
    case 'Block':
      return `${blocks}${blockPart(key.cidr)}`;
    case 'BlockAffinity':
      return `${ownerPrefix('BlockAffinity.host', key.host)}${blockPart(key.cidr)}`;
    case 'Handle':
      if (key.id === '') throw new InputError('Handle.id', key.id, 'a name');
      return `${handles}${key.id}`;
    case 'IpamConfig':
      return config;
    default: {
      const { plural, namespaced } = kinds[key.type];
      const name = segment(`${key.type}.metadata.name`, key.name);
      if (namespaced !== (key.namespace !== undefined)) {
        const expected = namespaced ? 'a namespace' : 'none: this kind has no namespace';
        throw new InputError(`${key.type}(${key.name}).metadata.namespace`, key.namespace, expected);
      }
      if (key.namespace === undefined) return `${resources}${plural}/${name}`;
      return `${resources}${plural}/${segment(`${key.type}.metadata.namespace`, key.namespace)}/${name}`;
    }
  }
}

/** etcd key → key; undefined for everything that is none of ours (status trees, other kinds, malformed names). */
export function parseEtcdKey(text: string): Key | undefined {
  if (text.startsWith(resources)) return parseResourceKey(text.slice(resources.length).split('/'));
  if (text.startsWith(handles))
    return text === handles ? undefined : { type: 'Handle', id: text.slice(handles.length) };
  if (text === config) return { type: 'IpamConfig' };
  if (text.startsWith(blocks)) {
    const cidr = parseBlockPart(text.slice(blocks.length).split('/'));
    return cidr && { type: 'Block', cidr };
  }
  for (const [prefix, mark] of [[hosts, ''] as const, [virtual, 'virtual:'] as const]) {
    if (!text.startsWith(prefix)) continue;
    const [name, ...rest] = text.slice(prefix.length).split('/');
    const cidr = name ? parseBlockPart(rest) : undefined;
    return name && cidr ? { type: 'BlockAffinity', host: mark + name, cidr } : undefined;
  }
  return undefined;
}

/** Below it lie the v3 resources of every kind. */
export const resourcesPrefix = resources;

/** Where felix's status lies; the region is Calico's of clusters that have none. */
export function reportKey(node: string, report: Report): string {
  return `/calico/felix/v2/no-region/host/${segment('node', node)}/${report}`;
}

/** Copies of IPAM's own objects, which are stored elsewhere. */
const copies = ['blockaffinities', 'ipamconfigs'];

/** An etcd key of a v3 resource whose kind or form is not known here. */
export function parseOtherKey(text: string): Other | undefined {
  if (!text.startsWith(resources)) return undefined;
  const parts = text.slice(resources.length).split('/');
  const [plural = '', first = '', ...rest] = parts;
  if (copies.includes(plural) || parseResourceKey(parts) !== undefined) return undefined;
  return rest.length === 0 ? { plural, name: first } : { plural, namespace: first, name: rest.join('/') };
}

/** The prefix below which all objects of a type lie; for IpamConfig its only key. */
export function etcdPrefix(type: Type, scope: Scope = {}): string {
  switch (type) {
    case 'Block':
      return blocks;
    case 'BlockAffinity':
      return scope.host === undefined ? hosts : ownerPrefix('host', scope.host);
    case 'Handle':
      return handles;
    case 'IpamConfig':
      return config;
    default: {
      const { plural, namespaced } = kinds[type];
      if (!namespaced || scope.namespace === undefined) return `${resources}${plural}/`;
      return `${resources}${plural}/${segment('namespace', scope.namespace)}/`;
    }
  }
}

function ownerPrefix(field: string, owner: string): string {
  const { type, name } = ownerParts(owner);
  return `${type === 'virtual' ? virtual : hosts}${segment(field, name)}/`;
}

/** The longest prefix that all the types share, for one ordered watch over them. */
export function commonPrefix(types: readonly Type[]): string {
  const [first = '/calico/', ...others] = types.map((type) => etcdPrefix(type));
  let length = first.length;
  for (const other of others) {
    let same = 0;
    while (same < length && other[same] === first[same]) same++;
    length = same;
  }
  return first.slice(0, length);
}

function segment(field: string, value: string): string {
  if (value === '' || value.includes('/')) throw new InputError(field, value, 'a name without "/"');
  return value;
}

/** `10.65.3.64/26` → `ipv4/block/10.65.3.64-26` */
function blockPart(cidr: Cidr): string {
  const { address, length, family } = cidrParts(cidr);
  return `ipv${family}/block/${address}-${length}`;
}

function parseBlockPart(parts: readonly string[]): Cidr | undefined {
  const [family, word, text] = parts;
  const dash = text?.lastIndexOf('-') ?? -1;
  if (parts.length !== 3 || word !== 'block' || text === undefined || dash < 0) return undefined;
  try {
    const cidr = parseCidr(`${text.slice(0, dash)}/${text.slice(dash + 1)}`);
    return `ipv${familyOf(cidr)}` === family && blockPart(cidr) === parts.join('/') ? cidr : undefined;
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}

function parseResourceKey(parts: readonly string[]): Key | undefined {
  const type = kindOfPlural.get(parts[0] ?? '');
  if (type === undefined || parts.includes('')) return undefined;
  const [, first, second] = parts;
  if (kinds[type].namespaced)
    return parts.length === 3 && first && second ? { type, namespace: first, name: second } : undefined;
  return parts.length === 2 && first ? { type, name: first } : undefined;
}
