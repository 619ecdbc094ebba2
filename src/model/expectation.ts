import type { z } from 'zod';

type Issue = z.core.$ZodIssue;

const types: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};
/** How messages begin that no schema of ours has written. */
const stock = /^(Invalid|Too (big|small)|Unrecognized)\b/;

/** What would have been accepted, in the words of whoever writes the file: `one of Ingress, Egress`, `254 or less`. */
export function expectation(issue: Issue): string {
  if (!stock.test(issue.message)) return issue.message.replace(/^expected /i, '');
  switch (issue.code) {
    case 'invalid_type':
      return types[issue.expected] ?? `a value of type ${issue.expected}`;
    case 'invalid_value':
      return issue.values.length === 1 ? String(issue.values[0]) : `one of ${issue.values.map(String).join(', ')}`;
    case 'too_big':
      return bound(issue.origin, issue.maximum, issue.inclusive ? 'most' : 'below');
    case 'too_small':
      return bound(issue.origin, issue.minimum, issue.inclusive ? 'least' : 'above');
    case 'invalid_union':
      return [...new Set(issue.errors.flatMap((branch) => branch.map(expectation)))].join(', or ') || issue.message;
    case 'invalid_key':
      return `keys that are ${issue.issues.map(expectation).join(', ')}`;
    case 'invalid_format':
      return issue.pattern === undefined ? `a value of the form ${issue.format}` : `text that matches ${issue.pattern}`;
    default:
      return issue.message.replace(/^(Invalid input: )?expected /i, '');
  }
}

const things: Readonly<Record<string, string>> = { string: 'character', array: 'element', set: 'element' };

function bound(origin: string, limit: number | bigint, side: 'most' | 'least' | 'below' | 'above'): string {
  const thing = things[origin];
  const upper = side === 'most' || side === 'below';
  if (thing !== undefined) return `at ${upper ? 'most' : 'least'} ${limit} ${thing}${Number(limit) === 1 ? '' : 's'}`;
  return side === 'most' ? `${limit} or less` : side === 'least' ? `${limit} or more` : `a number ${side} ${limit}`;
}
