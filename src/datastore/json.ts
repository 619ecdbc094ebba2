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
  stringify(value: unknown, replacer: (key: string, value: unknown) => unknown): string | undefined;
}

const exact = JSON as unknown as ExactJson;

/** So many digits in a row may be an integer beyond ±(2^53 − 1); fewer never are. */
const longDigits = /\d{16}/;

/** JSON text → value; an integer literal beyond ±(2^53 − 1) becomes a bigint. @throws SyntaxError */
export function parseJson(text: string): unknown {
  if (!longDigits.test(text)) return JSON.parse(text);
  return exact.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && !Number.isSafeInteger(value) && /^-?\d+$/.test(source)
      ? BigInt(source)
      : value,
  );
}

/** Value → compact JSON text; bigints are printed as integers. */
export function formatJson(value: unknown): string {
  const text = exact.stringify(value, (_key, field) => (typeof field === 'bigint' ? exact.rawJSON(`${field}`) : field));
  if (text === undefined) throw new TypeError('a value that JSON cannot hold');
  return text;
}
