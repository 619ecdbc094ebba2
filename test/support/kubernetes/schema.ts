/* apiextensions/v1 schemas as the API server applies them: what objects break, and what schemas are not structural. */

export interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly nullable?: boolean;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly description?: string;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

export interface Problem {
  readonly field: string;
  readonly message: string;
}

/** Everything in a value that a schema refuses; fields as `spec.cidr`. */
export function problemsOf(schema: Schema, value: unknown, field: string): Problem[] {
  if (value === null) return schema.nullable ? [] : [{ field, message: 'Invalid value: "null"' }];
  const found = typeOf(value);
  if (!accepts(schema, found)) {
    const wanted = schema.type ?? 'integer or string';
    return [{ field, message: `Invalid value: "${found}": must be of type ${wanted}: "${found}"` }];
  }
  const own = boundsOf(schema, value).map((message) => ({ field, message }));
  if (Array.isArray(value))
    return [...own, ...value.flatMap((each, at) => below(schema.items, each, `${field}[${at}]`))];
  if (found !== 'object') return own;
  const map = value as Readonly<Record<string, unknown>>;
  const missing = (schema.required ?? []).filter((name) => map[name] === undefined);
  return [
    ...own,
    ...missing.map((name) => ({ field: join(field, name), message: 'Required value' })),
    ...Object.entries(map).flatMap(([name, each]) =>
      below(schema.properties?.[name] ?? schema.additionalProperties, each, join(field, name)),
    ),
  ];
}

/** What the API server would refuse in a definition's schema. */
export function structuralProblems(schema: Schema, field: string): string[] {
  const problems: string[] = [];
  const known = schema['x-kubernetes-int-or-string'] || schema['x-kubernetes-preserve-unknown-fields'];
  if (schema.type === undefined && !known) problems.push(`${field}: must have a type`);
  if (schema.properties && schema.additionalProperties) problems.push(`${field}: properties and additionalProperties`);
  if (schema.type === 'array' && !schema.items) problems.push(`${field}: items are missing`);
  if (schema['x-kubernetes-int-or-string'] && schema.type) problems.push(`${field}: int-or-string with a type`);
  for (const forbidden of ['$ref', 'definitions', 'deprecated', 'patternProperties', 'const', 'uniqueItems'])
    if (forbidden in schema) problems.push(`${field}: ${forbidden} is forbidden`);
  const children = [
    ...Object.entries(schema.properties ?? {}),
    ...(schema.items ? [['[]', schema.items] as const] : []),
    ...(schema.additionalProperties ? [['*', schema.additionalProperties] as const] : []),
  ];
  return [...problems, ...children.flatMap(([name, child]) => structuralProblems(child, join(field, name)))];
}

function below(schema: Schema | undefined, value: unknown, field: string): Problem[] {
  return schema ? problemsOf(schema, value, field) : [];
}

function accepts(schema: Schema, found: string): boolean {
  if (schema['x-kubernetes-int-or-string']) return found === 'integer' || found === 'string';
  return schema.type === undefined || schema.type === found || (schema.type === 'number' && found === 'integer');
}

function typeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

function boundsOf(schema: Schema, value: unknown): string[] {
  const broken: string[] = [];
  const size = typeof value === 'string' || Array.isArray(value) ? value.length : undefined;
  const shown = typeof value === 'object' ? typeOf(value) : JSON.stringify(String(value));
  if (schema.enum && !schema.enum.includes(value)) broken.push(`Unsupported value: ${shown}`);
  if (schema.pattern && typeof value === 'string' && !new RegExp(schema.pattern, 'u').test(value))
    broken.push(`Invalid value: ${shown}: should match '${schema.pattern}'`);
  const [min, max] =
    typeof value === 'string' ? [schema.minLength, schema.maxLength] : [schema.minItems, schema.maxItems];
  if (size !== undefined && (size < (min ?? 0) || size > (max ?? Number.POSITIVE_INFINITY)))
    broken.push(`Invalid value: ${shown}: of the wrong length`);
  if (typeof value === 'number' && (value < (schema.minimum ?? -Infinity) || value > (schema.maximum ?? Infinity)))
    broken.push(`Invalid value: ${shown}: out of range`);
  return broken;
}

function join(field: string, name: string): string {
  return field === '' ? name : `${field}.${name}`;
}
