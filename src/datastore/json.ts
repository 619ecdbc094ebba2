/*
 * JSON whose integers stay exact. IPAM sequence numbers start at Unix nanoseconds, far above 2^53, where JSON.parse
 * rounds; the source text of the literal tells the true value.
 */

/** What V8 hands to a reviver besides key and value (ECMAScript JSON.parse source text access). */
interface LiteralContext {
  readonly source?: string;
}

interface ExactJson {
  parse(text: string, reviver: (key: string, value: unknown, context: LiteralContext) => unknown): unknown;
  rawJSON(text: string): unknown;
}

const exact = JSON as unknown as ExactJson;

/** So many digits in a row may be an integer beyond ±(2^53 − 1); fewer never are. */
const longDigits = /\d{16}/;

/**
 * A long integer that is the value of a key: what precedes it cannot end anything but a key, for a quote that opens a
 * string never follows a letter or digit, and one inside a string is escaped.
 */
const longValue = /(?<=\w":)-?\d{16,}(?=[,}])/g;

/** Marks a text as the literal of an integer; a text of the document's own that begins so is one escape away. */
const mark = '\\u0000';

/** JSON text → value; an integer literal beyond ±(2^53 − 1) becomes a bigint. @throws SyntaxError */
export function parseJson(text: string): unknown {
  if (!longDigits.test(text)) return JSON.parse(text);
  const marked = text.replace(longValue, `"${mark}$&"`);
  const odd = text.includes(mark) || text.includes('__proto__');
  if (odd || longDigits.test(marked.replace(/"\\u0000-?\d+"/g, '""'))) return parseSlowly(text);
  return unmark(JSON.parse(marked));
}

/** By a reviver, which costs several times the parsing. */
function parseSlowly(text: string): unknown {
  return exact.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && !Number.isSafeInteger(value) && /^-?\d+$/.test(source)
      ? BigInt(source)
      : value,
  );
}

/** Puts integers in place of marked texts, which are values of objects only. */
function unmark(value: unknown): unknown {
  if (Array.isArray(value)) for (const item of value) unmark(item);
  else if (typeof value === 'object' && value !== null) {
    const fields = value as Record<string, unknown>;
    for (const [key, field] of Object.entries(fields)) {
      if (typeof field !== 'string') unmark(field);
      else if (field.charCodeAt(0) === 0) fields[key] = integer(field.slice(1));
    }
  }
  return value;
}

function integer(digits: string): number | bigint {
  const value = Number(digits);
  return Number.isSafeInteger(value) ? value : BigInt(digits);
}

/** Value → compact JSON text; bigints are printed as integers. */
export function formatJson(value: unknown): string {
  const text = JSON.stringify(withLiterals(value)) as string | undefined;
  if (text === undefined) throw new TypeError('a value that JSON cannot hold');
  return text;
}

/**
 * Objects in which no bigint was found. Values are not changed once they are made: a block that is written again holds
 * the attributes of its addresses as before. One that was changed nevertheless is refused by JSON.stringify.
 */
const plain = new WeakSet<object>();

/** The value with literals in place of bigints; whatever holds none is the same object. */
function withLiterals(value: unknown): unknown {
  if (typeof value === 'bigint') return exact.rawJSON(`${value}`);
  if (typeof value !== 'object' || value === null || plain.has(value)) return value;
  const literal = Array.isArray(value) ? itemsWithLiterals(value) : fieldsWithLiterals(value);
  if (literal === value) plain.add(value);
  return literal;
}

function itemsWithLiterals(items: readonly unknown[]): readonly unknown[] {
  const literals = items.map(withLiterals);
  return literals.every((item, at) => item === items[at]) ? items : literals;
}

function fieldsWithLiterals(value: object): object {
  let changed: Record<string, unknown> | undefined;
  for (const [key, field] of Object.entries(value)) {
    const literal = withLiterals(field);
    if (literal === field) continue;
    changed ??= { ...value };
    changed[key] = literal;
  }
  return changed ?? value;
}
