import { describe, expect, test } from 'vitest';
import { EnvironmentError, InputError } from '../../../src/base/errors.ts';
import { codeOf, ExitError, exitCode, messageOf } from '../../../src/cli/exit.ts';
import { formatDuration, formatTable, parseFormat, render } from '../../../src/cli/output.ts';
import { lackingCapabilities, onPath } from '../../../src/cli/preflight.ts';
import { StoreUnavailableError } from '../../../src/datastore/store.ts';

describe('output', () => {
  test('columns are aligned and lines end without spaces', () => {
    const table = {
      columns: ['name', 'cidr'],
      rows: [
        ['a', '10.0.0.0/8'],
        ['longer', '-'],
      ],
    };
    expect(formatTable(table)).toBe('NAME     CIDR\na        10.0.0.0/8\nlonger   -\n');
    expect(formatTable({ columns: ['name'], rows: [] }, 'no pools')).toBe('no pools\n');
  });

  test.each([
    [0.4, '0s'],
    [42, '42s'],
    [312, '5m12s'],
    [3600, '1h'],
    [90_061, '1d1h'],
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  test('JSON and YAML carry the value as it is', () => {
    expect(render('json', { a: 1 }, () => 'table')).toBe('{\n  "a": 1\n}\n');
    expect(render('yaml', { a: 1 }, () => 'table')).toBe('a: 1\n');
    expect(render('table', { a: 1 }, () => 'table')).toBe('table');
    expect(() => parseFormat('xml')).toThrow('--output: "xml": expected json or yaml');
  });
});

describe('exit codes', () => {
  test('what a person can mend is one line, a bug is a stack', () => {
    expect(messageOf(new InputError('spec.cidr', 'x', 'a prefix'))).toBe('spec.cidr: "x": expected a prefix');
    expect(messageOf(new EnvironmentError('no ipset', 'install it'))).toBe('no ipset; install it');
    expect(messageOf(new TypeError('oops'))).toContain('at ');
  });

  test('an unreachable datastore is told apart from a failure', () => {
    expect(codeOf(new StoreUnavailableError('down'))).toBe(exitCode.unreachable);
    expect(codeOf(new ExitError(exitCode.usage, ''))).toBe(2);
    expect(codeOf(new Error('x'))).toBe(1);
  });
});

describe('preflight', () => {
  test('capabilities are read from the effective set', () => {
    expect(lackingCapabilities('000001ffffffffff', ['NET_ADMIN', 'SYS_ADMIN'])).toEqual([]);
    expect(lackingCapabilities('0000000000001000', ['NET_ADMIN', 'SYS_ADMIN'])).toEqual(['SYS_ADMIN']);
    expect(lackingCapabilities('0', ['NET_BIND_SERVICE'])).toEqual(['NET_BIND_SERVICE']);
  });

  test('programs are sought along PATH', () => {
    expect(onPath('sh', '/nonexistent:/bin')).toBe(true);
    expect(onPath('sh', '/nonexistent::/etc/passwd')).toBe(false);
    expect(onPath('sh', undefined)).toBe(false);
  });
});
