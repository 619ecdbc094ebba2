import { stringify } from 'yaml';
import { z } from 'zod';
import { isKind, kinds } from '../src/model/kinds.ts';

/*
 * deploy/crds: CustomResourceDefinitions of crd.projectcalico.org/v1, made of the same schemas that the agents check
 * with. `npm run crds` writes them.
 */

const group = 'crd.projectcalico.org';

/** Kinds that Kubernetes' own objects stand for, or another definition. */
const without = new Set(['Node', 'WorkloadEndpoint', 'Profile', 'Service', 'EndpointSlice', 'IPAMConfiguration']);

const int64 = z.number().int();

/** IPAM's objects as this API holds them; fields differ a little from etcd's. */
const ipam = {
  IPAMBlock: {
    plural: 'ipamblocks',
    spec: z.looseObject({
      cidr: z.string(),
      affinity: z.string().optional(),
      affinityClaimTime: z.string().optional(),
      strictAffinity: z.boolean(),
      allocations: z.array(z.number().int().nullable()),
      unallocated: z.array(z.number().int()),
      attributes: z.array(
        z.looseObject({ handle_id: z.string().nullish(), secondary: z.record(z.string(), z.string()).nullish() }),
      ),
      sequenceNumber: int64.optional(),
      sequenceNumberForAllocation: z.record(z.string(), int64).optional(),
      deleted: z.boolean(),
    }),
  },
  BlockAffinity: {
    plural: 'blockaffinities',
    spec: z.looseObject({
      state: z.string(),
      node: z.string(),
      type: z.string().optional(),
      cidr: z.string(),
      deleted: z.string(),
    }),
  },
  IPAMHandle: {
    plural: 'ipamhandles',
    spec: z.looseObject({
      handleID: z.string(),
      block: z.record(z.string(), z.number().int()),
      deleted: z.boolean().optional(),
    }),
  },
  IPAMConfig: {
    plural: 'ipamconfigs',
    spec: z.looseObject({
      strictAffinity: z.boolean(),
      autoAllocateBlocks: z.boolean(),
      maxBlocksPerHost: z.number().int().min(0).optional(),
      ipCooldownSeconds: z.number().int().min(0).max(1200).optional(),
    }),
  },
} as const;

/** A node of a JSON schema, or of a structural one. */
export interface Schema {
  [field: string]: unknown;
}

/** All definitions: file name in deploy/crds → its text. */
export function definitions(): Map<string, string> {
  const resources = Object.entries(kinds).flatMap(([kind, { plural, namespaced, spec }]) =>
    isKind(kind) && !without.has(kind) ? [definition(kind, plural, namespaced, spec as z.ZodType)] : [],
  );
  const objects = Object.entries(ipam).map(([kind, { plural, spec }]) => definition(kind, plural, false, spec));
  return new Map([...resources, ...objects].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function definition(kind: string, plural: string, namespaced: boolean, spec: z.ZodType): [string, string] {
  const text = { type: 'string' };
  const openAPIV3Schema = {
    description: `${kind} in the storage form of projectcalico.org/v3: users' metadata lies in an annotation.`,
    type: 'object',
    properties: {
      ...{ apiVersion: text, kind: text, metadata: { type: 'object' }, spec: structural(jsonSchema(spec)) },
      ...(kind === 'CalicoNodeStatus' && { status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } }),
    },
  };
  const object = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
      scope: namespaced ? 'Namespaced' : 'Cluster',
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
    },
  };
  const head = '# Made of the schemas in src/model by `npm run crds`.\n';
  return [`${group}_${plural}.yaml`, head + stringify(object, { aliasDuplicateObjects: false, lineWidth: 120 })];
}

/** What a writer may give, transformations left out. */
function jsonSchema(spec: z.ZodType): Schema {
  return z.toJSONSchema(spec, { io: 'input', unrepresentable: 'any', target: 'openapi-3.0' }) as Schema;
}

/**
 * A JSON schema in the form that Kubernetes asks for (apiextensions/v1 "structural"). Defaults are left to the reader.
 * Unknown fields are kept everywhere: another version may know them, and a condition of a rule that the server dropped
 * silently would widen it, where the agents refuse it.
 */
export function structural(schema: Schema): Schema {
  const { default: _, type, anyOf, properties, required, items, additionalProperties, ...rest } = schema;
  if (Array.isArray(anyOf)) return alternatives(anyOf as Schema[], rest);
  if (type === 'array') return { type, items: structural(items as Schema), ...rest };
  if (type !== 'object') return { ...(type !== undefined && { type }), ...bounded(rest, type) };
  if (properties === undefined && isTyped(additionalProperties))
    return { type, additionalProperties: structural(additionalProperties), ...rest };
  const fields = Object.entries((properties ?? {}) as Record<string, Schema>).flatMap(([name, field]) => {
    const made = structural(field);
    // A field that is refused by name has no type; the agents say why.
    return made['type'] === undefined && !made['x-kubernetes-int-or-string'] ? [] : [[name, made] as const];
  });
  return {
    type,
    ...(fields.length > 0 && { properties: Object.fromEntries(fields) }),
    ...(Array.isArray(required) && required.length > 0 && { required }),
    'x-kubernetes-preserve-unknown-fields': true,
  };
}

function isTyped(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && ('type' in value || 'anyOf' in value);
}

/** Numbers or texts, or values of one type; `null` beside a type makes it nullable. */
function alternatives(all: readonly Schema[], rest: Schema): Schema {
  const some = all.filter(({ type }) => type !== 'null');
  const types = new Set(some.map(({ type }) => (type === 'number' ? 'integer' : type)));
  const nullable = some.length < all.length ? { nullable: true } : {};
  if (types.size === 1 && some.every((each) => Array.isArray(each['enum'])))
    return { type: [...types][0], enum: some.flatMap((each) => each['enum'] as unknown[]), ...nullable };
  if (some.length === 1 && some[0]) return { ...structural(some[0]), ...nullable };
  if ([...types].every((type) => type === 'integer' || type === 'string'))
    return { anyOf: [{ type: 'integer' }, { type: 'string' }], 'x-kubernetes-int-or-string': true, ...nullable };
  throw new TypeError(`no structural form of ${JSON.stringify(all)} with ${JSON.stringify(rest)}`);
}

/** Without the bounds that stand for none. */
function bounded(rest: Schema, type: unknown): Schema {
  const kept = Object.entries(rest).filter(([, value]) => Math.abs(Number(value)) !== Number.MAX_SAFE_INTEGER);
  return { ...(type === 'integer' && { format: 'int64' }), ...Object.fromEntries(kept) };
}
