import { type Kind, kinds, parseResource } from '../../model/kinds.ts';
import type { Resource } from '../../model/resource.ts';
import { checkResource, isPolicyKind } from '../codec.ts';
import type { Key, Type, Value } from '../store.ts';
import { readMetadata, writeMetadata } from './metadata.ts';
import { type ApiObject, type ApiResource, apiVersionOf, calico } from './resources.ts';
import type { Source } from './source.ts';

/* Calico's own kinds, as crd.projectcalico.org/v1 resources. */

const apiVersion = 'projectcalico.org/v3';

type ResourceKey = Extract<Key, { readonly name: string }>;

/** Names of policies that stand for Kubernetes' own, which are read where they come from. */
const borrowed = /^(knp\.default\.|kanp\.|kbanp\.|kcnp\.)/;

/** Whether a name of a kind is stored by itself, and not by an object of Kubernetes' own. */
export function isStored(kind: Kind, name: string): boolean {
  return !isPolicyKind(kind) || !borrowed.test(name);
}

/** Where objects of a kind that is stored under its own names are, and what their names mean. */
export function placed(kind: Kind, resource: ApiResource): Pick<Source, 'type' | 'resource' | 'place' | 'keyOf'> {
  const isOurs = (name: string) => isStored(kind, name);
  return {
    type: kind,
    resource,
    place: (key) => {
      const { name, namespace } = key as ResourceKey;
      return isOurs(name) ? { resource, name, ...(namespace !== undefined && { namespace }) } : undefined;
    },
    keyOf: ({ metadata: { name, namespace } }) =>
      isOurs(name) ? ({ type: kind, name, ...(namespace !== undefined && { namespace }) } as Key) : undefined,
  };
}

/** @param resource where another kind of resource holds it */
export function customSource(
  kind: Kind,
  resource: ApiResource = calico(kind, kinds[kind].plural, kinds[kind].namespaced),
): Source {
  return {
    ...placed(kind, resource),
    read: (object) => readCustom(kind, object),
    writer: { by: 'replace', write: (key, value) => writeCustom(resource, key, value) },
  };
}

function readCustom(kind: Kind, object: ApiObject): Value<Type> {
  const metadata = readMetadata(object.metadata, `${kind}(${object.metadata.name})`);
  const { status } = object;
  const parsed: Resource = parseResource(kind, {
    ...{ kind, apiVersion, metadata, spec: object.spec ?? {} },
    ...(status !== undefined && hasStatus(kind) && { status }),
  });
  if (!isPolicyKind(kind) || metadata.name !== object.metadata.name) return parsed as Value<Type>;
  // Keys of old versions carry the tier's name, which is no part of the policy's.
  const inDefault = ((parsed.spec as { tier?: string }).tier ?? 'default') === 'default';
  const name = inDefault ? metadata.name.replace(/^default\./, '') : metadata.name;
  return { ...parsed, metadata: { ...parsed.metadata, name } } as Value<Type>;
}

function writeCustom(resource: ApiResource, key: Key, value: Value<Type>): ApiObject {
  const checked = checkResource(key, value as Resource);
  const metadata = writeMetadata(checked.metadata, (key as ResourceKey).name, isPolicyKind(key.type));
  const { status } = checked as Resource & { readonly status?: unknown };
  return {
    ...{ apiVersion: apiVersionOf(resource), kind: resource.kind, metadata, spec: { ...(checked.spec as object) } },
    ...(status !== undefined && hasStatus(key.type) && { status: status as ApiObject['status'] & object }),
  };
}

/** Kinds with a part that is written by who they are about. */
function hasStatus(type: Type): boolean {
  return type === 'CalicoNodeStatus';
}
