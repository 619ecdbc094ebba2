import { type Json, Refusal, type TestObject } from './objects.ts';

/** `labelSelector`: `a=b,c!=d,e in (f,g),h,!i`. */
export function labelMatcher(text: string | null): (object: TestObject) => boolean {
  const terms = split(text).map((term) => {
    const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
    if (set) {
      const values = (set[3] ?? '').split(',').map((value) => value.trim());
      return (labels: Labels) => values.includes(labels[set[1] ?? ''] ?? '\0') === (set[2] === 'in');
    }
    const equal = /^([^!=\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
    if (equal) return (labels: Labels) => (labels[equal[1] ?? ''] === equal[3]) === (equal[2] !== '!=');
    if (/^![^!=\s]+$/.test(term)) return (labels: Labels) => !(term.slice(1) in labels);
    if (/^[^!=\s]+$/.test(term)) return (labels: Labels) => term in labels;
    throw new Refusal(400, 'BadRequest', `unable to parse requirement: ${term}`);
  });
  return ({ metadata }) => terms.every((term) => term(metadata.labels ?? {}));
}

type Labels = Readonly<Record<string, string>>;

/** `fieldSelector`, with the fields that the real server takes of these kinds. */
export function fieldMatcher(text: string | null): (object: TestObject) => boolean {
  const terms = split(text).map((term) => {
    const found = /^(metadata\.name|metadata\.namespace|spec\.nodeName|status\.phase)\s*(==|=|!=)\s*(.*)$/.exec(term);
    if (!found) throw new Refusal(400, 'BadRequest', `field label not supported: ${term}`);
    const [, path = '', operator, wanted] = found;
    return (object: TestObject) => {
      const value = path.split('.').reduce<unknown>((at, step) => (at as Json | undefined)?.[step], object) ?? '';
      return (value === wanted) === (operator !== '!=');
    };
  });
  return (object) => terms.every((term) => term(object));
}

function split(text: string | null): string[] {
  if (!text) return [];
  return text.split(/,(?![^(]*\))/).map((term) => term.trim());
}
