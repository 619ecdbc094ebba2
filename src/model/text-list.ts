import { InputError } from '../base/errors.ts';

const mostTexts = 16;
/** Octets of a name of DNS, which the longest of what such lists hold are. */
const longest = 253;

/** An annotation's JSON list of names, prefixes or addresses. @throws InputError naming `field` */
export function parseTextList(field: string, text: string): string[] {
  const expected = `a JSON list of at most ${mostTexts} texts`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(field, text, expected, { cause });
  }
  if (isList(value)) return value;
  throw new InputError(field, text, expected);
}

function isList(value: unknown): value is string[] {
  if (!Array.isArray(value) || value.length > mostTexts) return false;
  return value.every((each) => typeof each === 'string' && each.length <= longest);
}
