import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { problemsOf, type Schema } from './schema.ts';

/* What the test API server knows of the API: its resources, and how they answer. */

/** Any JSON object. */
export interface Json {
  [field: string]: unknown;
}

export interface TestObject extends Json {
  metadata: Json & {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: Json;
  status?: Json;
}

export interface TestResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Of an installed definition, not of the server itself. */
  readonly custom: boolean;
  /** Whether `/status` is a resource of its own. */
  readonly status: boolean;
  /** Returns the object as stored; throws Refusal. */
  readonly admit?: (object: TestObject) => TestObject;
}

/** An answer that says no: `meta/v1 Status`. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details: Json = {},
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }

  get status(): Json {
    const { code, reason, message, details } = this;
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, details, code };
  }
}

function own(
  group: string,
  version: string,
  kind: string,
  plural: string,
  namespaced: boolean,
  status = false,
): TestResource {
  return { group, version, plural, kind, namespaced, custom: false, status };
}

export const builtIn: readonly TestResource[] = [
  own('', 'v1', 'Namespace', 'namespaces', false, true),
  own('', 'v1', 'Node', 'nodes', false, true),
  own('', 'v1', 'Pod', 'pods', true, true),
  own('', 'v1', 'Service', 'services', true, true),
  own('', 'v1', 'ServiceAccount', 'serviceaccounts', true),
  own('coordination.k8s.io', 'v1', 'Lease', 'leases', true),
  own('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', true),
  own('networking.k8s.io', 'v1', 'NetworkPolicy', 'networkpolicies', true),
  own('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', 'customresourcedefinitions', false, true),
];

/** A definition's resource. */
export function custom(group: string, version: string, kind: string, plural: string, namespaced = false): TestResource {
  return { group, version, plural, kind, namespaced, custom: true, status: false };
}

/** A definition as deploy/crds has it. */
interface Definition {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string; readonly plural: string };
    readonly scope: 'Cluster' | 'Namespaced';
    readonly versions: readonly { readonly name: string; readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

/** The resource that a definition makes, which checks objects against its schema. */
export function defined({ spec: { group, names, scope, versions } }: Definition): TestResource {
  const [version] = versions;
  if (!version) throw new TypeError(`${names.plural} has no version`);
  const { openAPIV3Schema: schema } = version.schema;
  const resource = custom(group, version.name, names.kind, names.plural, scope === 'Namespaced');
  const admit = (object: TestObject): TestObject => {
    const [problem] = problemsOf(schema, object, '');
    if (problem === undefined) return object;
    throw invalid(resource, object.metadata.name, problem.field, problem.message);
  };
  return { ...resource, admit };
}

const folder = join(import.meta.dirname, '../../../deploy/crds');

/** The definitions in deploy/crds: those of a cluster that they were applied to. */
export const calicoResources: readonly TestResource[] = readdirSync(folder).map((file) =>
  defined(parse(readFileSync(join(folder, file), 'utf8')) as Definition),
);

export function invalid(resource: Pick<TestResource, 'kind'>, name: string, field: string, message: string): Refusal {
  const causes = [{ reason: 'FieldValueInvalid', field, message }];
  return new Refusal(422, 'Invalid', `${resource.kind} "${name}" is invalid: ${field}: ${message}`, {
    name,
    kind: resource.kind,
    causes,
  });
}

export function apiVersionOf({ group, version }: TestResource): string {
  return group === '' ? version : `${group}/${version}`;
}

export function idOf({ group, plural }: TestResource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

/** The same as native definitions of projectcalico.org/v3, which refuse what only the other form has. */
export const v3Resources: readonly TestResource[] = calicoResources.map(({ kind, plural, namespaced }) => {
  const settings = kind === 'IPAMConfig';
  const [name, many] = settings ? ['IPAMConfiguration', 'ipamconfigurations'] : [kind, plural];
  const resource = custom('projectcalico.org', 'v3', name, many, namespaced);
  const admit = (object: TestObject): TestObject => {
    const { annotations = {} } = object.metadata;
    if ('projectcalico.org/metadata' in annotations)
      throw invalid(resource, object.metadata.name, 'metadata.annotations', 'is of the other form');
    const deleted = object.spec?.['deleted'];
    if (deleted !== undefined && typeof deleted !== 'boolean')
      throw invalid(resource, object.metadata.name, 'spec.deleted', `${typeof deleted}, and not boolean`);
    return object;
  };
  return { ...resource, admit };
});
