import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { type Node, setValues } from '../../../src/model/selector/tree.ts';
import { parseSelector, Selector } from '../../../src/model/selector.ts';

const label = fc.constantFrom('a', 'b', 'in', 'not', 'has', 'constructor', '__proto__', 'x/y.z-1');
const value = fc.oneof(
  fc.constantFrom('', 'x', 'y'),
  fc.string({ maxLength: 4 }).filter((text) => !text.includes("'")),
);

/** Trees that the parser can make: groups have two or more members. */
const { node } = fc.letrec<{ node: Node }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<Node>({ op: 'all' }, { op: 'global' }),
    fc.record({ op: fc.constant('has' as const), label }),
    fc.record({
      op: fc.constantFrom(
        '==' as const,
        '!=' as const,
        'contains' as const,
        'starts with' as const,
        'ends with' as const,
      ),
      label,
      value,
    }),
    fc.record({
      op: fc.constantFrom('in' as const, 'not in' as const),
      label,
      values: fc.array(value, { maxLength: 3 }).map(setValues),
    }),
    fc.record({ op: fc.constant('not' as const), operand: tie('node').filter((operand) => operand.op !== 'not') }),
    fc.record({
      op: fc.constantFrom('and' as const, 'or' as const),
      operands: fc.array(tie('node'), { minLength: 2, maxLength: 3 }),
    }),
  ),
}));
const labels = fc.dictionary(fc.constantFrom('a', 'b', 'in', 'not', 'constructor'), fc.constantFrom('', 'x', 'y'));

test('canonical text parses to the same tree', () => {
  fc.assert(
    fc.property(node, (tree) => {
      expect(parseSelector(new Selector(tree).canonical).node).toEqual(tree);
    }),
  );
});

test('what pins demand holds wherever the selector does', () => {
  fc.assert(
    fc.property(node, labels, (tree, object) => {
      const selector = new Selector(tree);
      if (!selector.matches(object)) return;
      for (const [key, values] of selector.pins) expect(values).toContain(object[key]);
    }),
  );
});

test('any text is a selector or an InputError', () => {
  const token = fc.constantFrom(
    'a',
    'in',
    'not',
    'has(',
    'all(',
    ')',
    '(',
    '{',
    '}',
    ',',
    "'x'",
    '"',
    '==',
    '!=',
    '!',
    '&&',
    '||',
    ' ',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(token, fc.string({ maxLength: 3 })), { maxLength: 20 }), (parts) => {
      const text = parts.join('');
      try {
        const canonical = parseSelector(text).canonical;
        expect(parseSelector(canonical).matches({ a: 'x' })).toBe(parseSelector(text).matches({ a: 'x' }));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
      }
    }),
    { numRuns: 2000 },
  );
});
