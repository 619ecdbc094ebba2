/** Input that cannot be accepted: names the field and shows the offending value. */
export class InputError extends Error {
  override readonly name = 'InputError';
  /**
   * @param field path of the field, for example `spec.cidr` or `CNI_NETNS`
   * @param value the offending value; shown shortened
   * @param expected what would have been accepted
   */
  constructor(
    readonly field: string,
    readonly value: unknown,
    readonly expected: string,
    options?: ErrorOptions,
  ) {
    super(`${field}: ${show(value)}: expected ${expected}`, options);
  }
}

/** Something this host lacks (a privilege, a program, a free port), with what to do about it. */
export class EnvironmentError extends Error {
  override readonly name = 'EnvironmentError';
  constructor(
    readonly problem: string,
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(`${problem}; ${remedy}`, options);
  }
}

/** A value as a person reads it in an error message: JSON, at most 120 characters. */
export function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value, plainly) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

/** ECMAScript JSON.parse source text access, which the library's types leave out. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** JSON.stringify refuses a bigint, which a stored value may hold anywhere. */
function plainly(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? rawJSON(String(value)) : value;
}

/** The message of anything thrown, with its chain of causes; what to do about it stands last. */
export function explain(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown.cause === undefined) return thrown.message;
  const why = explain(thrown.cause);
  return thrown instanceof EnvironmentError
    ? `${thrown.problem}: ${why}; ${thrown.remedy}`
    : `${thrown.message}: ${why}`;
}

/** Node's code of a system error (`ECONNREFUSED`, `ENOENT`), if it is one. */
export function errorCode(thrown: unknown): string | undefined {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') return thrown.code;
  return undefined;
}

/** Marks a place that closed unions make unreachable. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${show(value)}`);
}
