import { type Kind, kinds, parseResource } from '../../model/kinds.ts';
import type { Metadata, Resource } from '../../model/resource.ts';
import { checkResource } from '../codec.ts';
import type { Key, Value } from '../store.ts';
import { placed } from './custom.ts';
import { affinitySource, blockSource, configSource, handleSource } from './ipam.ts';
import { type ApiMetadata, type ApiObject, type ApiResource, v3Group } from './resources.ts';
import type { Source } from './source.ts';

/*
 * Calico's kinds as native projectcalico.org/v3 resources (Calico 3.32 and later): what users see is what is stored, so
 * metadata are the API's own. IPAM's objects are as in crd.projectcalico.org/v1, but for types and names of a few fields.
 */

function native(kind: string, plural: string, namespaced = false): ApiResource {
  return { group: v3Group, version: 'v3', plural, kind, namespaced };
}

const apiVersion = 'projectcalico.org/v3';
const settings = native('IPAMConfiguration', 'ipamconfigurations');

/** Written by the API server. */
const servers = new Set(['managedFields', 'generation', 'selfLink']);

type ResourceKey = Extract<Key, { readonly name: string }>;

/** A kind stored as users see it, but for policies that stand for Kubernetes' own. */
export function v3Source(kind: Kind): Source {
  return {
    ...placed(kind, native(kind, kinds[kind].plural, kinds[kind].namespaced)),
    read: ({ metadata, spec = {} }) =>
      parseResource(kind, { kind, apiVersion, metadata: withoutServers(metadata), spec }) as Value<Kind>,
    writer: {
      by: 'replace',
      write: (key, value) => {
        const { metadata, spec } = checkResource(key, value as Resource);
        return {
          apiVersion,
          kind,
          metadata: written(metadata, (key as ResourceKey).name),
          spec: { ...(spec as object) },
        };
      },
    },
  };
}

function withoutServers(metadata: ApiMetadata): object {
  return Object.fromEntries(Object.entries(metadata).filter(([field]) => !servers.has(field)));
}

/** What a writer says of an object; its revision goes by the store, and its identity is the server's. */
function written(metadata: Metadata, name: string): ApiMetadata {
  const { uid: _u, resourceVersion: _r, creationTimestamp: _c, ...rest } = metadata;
  return { ...rest, name };
}

/** IPAM's objects, which in this group have no metadata of their own, and say by a boolean that they are deleted. */
export const v3IpamSources: readonly Source[] = [
  moved(blockSource, native('IPAMBlock', 'ipamblocks')),
  withBooleanDeleted(moved(affinitySource, native('BlockAffinity', 'blockaffinities'))),
  moved(handleSource, native('IPAMHandle', 'ipamhandles')),
  moved(configSource, settings),
];

/** A source with its objects in another resource. */
function moved(source: Source, resource: ApiResource): Source {
  const { writer } = source;
  if (writer?.by !== 'replace') throw new TypeError(`${resource.plural} cannot be written`);
  return {
    ...source,
    resource,
    place: (key) => {
      const place = source.place(key);
      return place && { ...place, resource };
    },
    writer: {
      ...writer,
      write: (key, value) => {
        const { spec = {}, metadata } = writer.write(key, value);
        const { annotations: _, ...rest } = metadata;
        return { apiVersion, kind: resource.kind, metadata: rest, spec };
      },
    },
  };
}

function withBooleanDeleted(source: Source): Source {
  const { writer } = source;
  if (writer?.by !== 'replace') return source;
  const spelled = (object: ApiObject): ApiObject => ({
    ...object,
    spec: { ...object.spec, deleted: String(object.spec?.['deleted']) === 'true' },
  });
  return {
    ...source,
    writer: {
      ...writer,
      write: (key, value) => spelled(writer.write(key, value)),
      ...(writer.mark && { mark: (object: ApiObject) => spelled(writer.mark?.(object) ?? object) }),
    },
  };
}
