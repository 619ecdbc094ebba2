import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { namespaceSelector, parseSelector } from '../../../src/model/selector.ts';

describe('canonical form', () => {
  test.each([
    ['', 'all()'],
    [' \t ', 'all()'],
    ["role=='db'", 'role == "db"'],
    [`role == 'it"s'`, `role == 'it"s'`],
    ["zone notin{'z2','z1','z2'}", 'zone not in {"z1", "z2"}'],
    ['tier in {"x",}', 'tier in {"x"}'],
    ['tier in {}', 'tier in {}'],
    ['!!has(gpu)', 'has(gpu)'],
    ['! ! !has( gpu )', '!has(gpu)'],
    ["(((env=='p')))", 'env == "p"'],
    ["a=='1'||b=='2'&&c=='3'", '(a == "1" || (b == "2" && c == "3"))'],
    ["a=='1'&&(b=='2'&&c=='3')", '(a == "1" && (b == "2" && c == "3"))'],
    ["name startswith 'web-'", 'name starts with "web-"'],
    ["name ends  with 'web-'", 'name ends with "web-"'],
    ['global( )', 'global()'],
    ["in contains 'in'", 'in contains "in"'],
    ["has == 'all'", 'has == "all"'],
    ["not not in {'not'}", 'not not in {"not"}'],
    ["!(app != 'x')", '!app != "x"'],
    ["a in {'\u{1F600}','\u{FF5E}'}", 'a in {"\u{FF5E}", "\u{1F600}"}'],
  ])('%s', (text, canonical) => {
    expect(parseSelector(text).canonical).toBe(canonical);
  });
});

test.each([
  ['', 's:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug'],
  ["role=='db'", 's:rV61RKD1Q8wo61pyeB0j2rwE3eiBOFbx0SsYKg'],
  ["zone notin{'z2','z1','z2'}", 's:14bXpNAq8KscwltDibg2yhoXle194yF0BYtjHQ'],
])('identifier of %s', (text, id) => {
  expect(parseSelector(text).id).toBe(id);
});

describe('rejected', () => {
  test.each([
    ['role', 5],
    ["role = 'db'", 6],
    ['role == db', 9],
    ["'db' == role", 1],
    ['role == "db', 9],
    ["role in 'db'", 9],
    ["role in {'a' 'b'}", 14],
    ['role in {,}', 10],
    ["role in {'a',,}", 14],
    ['has()', 5],
    ['has (x)', 5],
    ["(role == 'db'", 14],
    ["role == 'db')", 13],
    ["a == '1' & b == '2'", 10],
    ["a == '1' b == '2'", 10],
    ['ALL()', 4],
    ["café == 'x'", 4],
    ["a not 'x'", 3],
    ["a inx {'x'}", 3],
    ["a == '1'\n&& b == '2'", 9],
    [`${'x'.repeat(513)} == 'y'`, 1],
    [`${'('.repeat(100_000)}a == 'b'`, 102],
    ['!'.repeat(100_000), 100_001],
  ])('%s', (text, position) => {
    const parse = () => parseSelector(text, 'spec.selector');
    expect(parse).toThrow(InputError);
    expect(parse).toThrow(/^spec\.selector: /);
    expect(parse).toThrow(`at position ${position},`);
  });
});

describe('matching', () => {
  const labels = { app: 'web-1', env: '' };
  test.each([
    ['', true],
    ['global()', true],
    ['has(app)', true],
    ['has(env)', true],
    ['has(none)', false],
    ["none != 'x'", true],
    ["none not in {'x'}", true],
    ["none in {'x'}", false],
    ["none == ''", false],
    ["env == ''", true],
    ["env contains ''", true],
    ["none contains ''", false],
    ["app contains 'b-'", true],
    ["app starts with 'web'", true],
    ["app ends with '-1'", true],
    ["!app == 'web-1'", false],
    ["app == 'x' || env == '' && !has(none)", true],
    ['has(constructor)', false],
    ['has(__proto__)', false],
    ["toString != 'x'", true],
  ])('%s', (text, expected) => {
    expect(parseSelector(text).matches(labels)).toBe(expected);
    expect(parseSelector(text).matches(new Map(Object.entries(labels)))).toBe(expected);
  });

  test('names of object members are ordinary labels', () => {
    const odd = JSON.parse('{"__proto__":"a","constructor":"b"}') as Record<string, string>;
    expect(parseSelector("__proto__ == 'a' && constructor == 'b'").matches(odd)).toBe(true);
  });
});

test('a namespace selector refers to inherited labels', () => {
  expect(namespaceSelector(parseSelector("team == 'a' && !has(x)")).canonical).toBe(
    '(pcns.team == "a" && !has(pcns.x))',
  );
  expect(namespaceSelector(parseSelector('all()')).canonical).toBe('has(projectcalico.org/namespace)');
  expect(namespaceSelector(parseSelector('global()')).canonical).toBe('!has(projectcalico.org/namespace)');
});

test('pins are what every match must have', () => {
  expect([...parseSelector("a == '1' && b in {'x','y'} && b in {'y','z'} && c != '1'").pins]).toEqual([
    ['a', ['1']],
    ['b', ['y']],
  ]);
  expect(parseSelector("a == '1' || b == '2'").pins.size).toBe(0);
});
