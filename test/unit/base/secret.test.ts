import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { Secret } from '../../../src/base/secret.ts';

test('no way of printing shows a secret', () => {
  const secret = new Secret('open sesame');
  const lines: string[] = [];
  createLog('test', 'info', { write: (line) => void lines.push(line) }).info({ peer: { key: secret } }, `${secret}`);
  const shown = [JSON.stringify({ secret }), inspect({ secret }, { depth: 9, showHidden: true }), ...lines];
  for (const text of shown) {
    expect(text).not.toContain('sesame');
    expect(text).toContain('redacted:');
  }
  expect(secret.reveal()).toBe('open sesame');
});

test('equal secrets compare as equal by their JSON, different ones do not', () => {
  expect(JSON.stringify(new Secret('a'))).toBe(JSON.stringify(new Secret('a')));
  expect(JSON.stringify(new Secret('a'))).not.toBe(JSON.stringify(new Secret('b')));
});
