import { z } from 'zod';
import { type Kind, kinds } from './kinds.ts';

/** A field that no schema names. */
export interface UnknownField {
  /** `spec.bfd.intervall`. */
  readonly field: string;
  readonly value: unknown;
}

const objectFields = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];
/** Kubernetes' ObjectMeta. */
const metadataFields = [
  ...['name', 'generateName', 'namespace', 'selfLink', 'uid', 'resourceVersion', 'generation', 'creationTimestamp'],
  ...['deletionTimestamp', 'deletionGracePeriodSeconds', 'labels', 'annotations', 'ownerReferences', 'finalizers'],
  'managedFields',
];

/**
 * The fields of an object that its kind does not have, at any depth: what a stored object may carry, as its writer may be
 * newer than its reader, and what in a person's file is most likely misspelt.
 */
export function unknownFields(kind: Kind, value: unknown): UnknownField[] {
  if (!isObject(value)) return [];
  return [
    ...strangers(value, objectFields, ''),
    ...(isObject(value['metadata']) ? strangers(value['metadata'], metadataFields, 'metadata.') : []),
    ...within(kinds[kind].spec, value['spec'], 'spec'),
  ];
}

function within(schema: z.core.$ZodType, value: unknown, at: string): UnknownField[] {
  if (schema instanceof z.ZodObject) {
    if (!isObject(value)) return [];
    const known = schema.shape as Readonly<Record<string, z.core.$ZodType>>;
    const inner = Object.entries(known).flatMap(([name, field]) =>
      Object.hasOwn(value, name) ? within(field, value[name], `${at}.${name}`) : [],
    );
    return [...strangers(value, Object.keys(known), `${at}.`), ...inner];
  }
  if (schema instanceof z.ZodArray)
    return Array.isArray(value) ? value.flatMap((each, i) => within(schema.element, each, `${at}[${i}]`)) : [];
  const wrapped = innerOf(schema);
  return wrapped ? within(wrapped, value, at) : [];
}

function innerOf(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return schema.unwrap();
  return schema instanceof z.ZodPipe ? schema.in : undefined;
}

function strangers(value: Readonly<Record<string, unknown>>, known: readonly string[], at: string): UnknownField[] {
  return Object.keys(value).flatMap((name) =>
    known.includes(name) ? [] : [{ field: `${at}${name}`, value: value[name] }],
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
