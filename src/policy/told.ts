import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { problemsAnnotation } from '../model/policy.ts';

const problems = z.array(z.object({ field: z.string(), value: z.unknown(), expected: z.string() }));

/** What was wrong in the object that a policy was converted from, which its annotation tells. */
export function toldProblems(annotations: Readonly<Record<string, string>> = {}): InputError[] {
  const text = new Map(Object.entries(annotations)).get(problemsAnnotation);
  if (text === undefined) return [];
  try {
    return problems.parse(JSON.parse(text)).map(({ field, value, expected }) => new InputError(field, value, expected));
  } catch (cause) {
    return [new InputError(`metadata.annotations.${problemsAnnotation}`, text, 'a list of problems', { cause })];
  }
}
