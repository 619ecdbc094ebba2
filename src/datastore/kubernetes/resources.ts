import { InputError } from '../../base/errors.ts';

/* Where the Kubernetes API keeps things: groups, versions, plurals, paths. */

export interface ApiResource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** A cluster may do without it; then there are no objects of it. */
  readonly optional?: boolean;
}

/** Metadata of an object of the API, as far as it is read here. */
export interface ApiMetadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** An object of the API; list items of built-in kinds carry neither `kind` nor `apiVersion`. */
export interface ApiObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ApiMetadata;
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

export const calicoGroup = 'crd.projectcalico.org';

/** Native definitions of the kinds that users see. */
export const v3Group = 'projectcalico.org';

/** The groups in which Calico's objects may be. */
export type CalicoGroup = typeof calicoGroup | typeof v3Group;

/** Of Calico's kinds, those that the definitions of its older releases lack. */
const later = /^(Tier|Staged.*|IPReservation)$/;

/** A resource of Calico's own group. */
export function calico(kind: string, plural: string, namespaced = false): ApiResource {
  return { group: calicoGroup, version: 'v1', plural, kind, namespaced, ...(later.test(kind) && { optional: true }) };
}

/** A resource that the API server has of itself. */
export function builtIn(
  group: string,
  version: string,
  kind: string,
  plural: string,
  namespaced: boolean,
): ApiResource {
  return { group, version, plural, kind, namespaced };
}

/** A resource of an API that is installed on its own. */
export function optional(group: string, version: string, kind: string, plural: string): ApiResource {
  return { group, version, plural, kind, namespaced: false, optional: true };
}

/** `pods`, `ippools.crd.projectcalico.org` */
export function resourceId({ group, plural }: ApiResource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

/** `v1`, `crd.projectcalico.org/v1` */
export function apiVersionOf({ group, version }: ApiResource): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Place of an object in the API. */
export interface Place {
  readonly resource: ApiResource;
  readonly namespace?: string;
  readonly name: string;
}

/** URL path of all objects of a resource, or of those in a namespace. */
export function collectionPath(resource: ApiResource, namespace?: string): string {
  const base = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const within = resource.namespaced && namespace !== undefined ? `/namespaces/${segment(namespace)}` : '';
  return `${base}${within}/${resource.plural}`;
}

/** URL path of one object. @throws InputError for a name that would leave its place in the path */
export function objectPath({ resource, namespace, name }: Place): string {
  return `${collectionPath(resource, namespace)}/${segment(name)}`;
}

function segment(name: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('%'))
    throw new InputError('metadata.name', name, 'a name without "/" and "%"');
  return encodeURIComponent(name);
}
