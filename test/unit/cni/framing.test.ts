import { expect, test } from 'vitest';
import { maxRequestBytes, parseBody, requestLength, writeAnswer, writeRequest } from '../../../src/cni/framing.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

test('a request survives the way', () => {
  const request = { env: { CNI_COMMAND: 'ADD' }, stdin: '{"name":"é\u0000"}' };
  const sent = writeRequest(request);
  expect(requestLength(sent)).toBe(sent.length - 4);
  expect(parseBody(sent.subarray(4))).toEqual(request);
});

test('an answer is its length, the exit code and the output', () => {
  expect([...writeAnswer({ exitCode: 1, stdout: 'no' })]).toEqual([0, 0, 0, 3, 1, 0x6e, 0x6f]);
});

test('a header not yet whole is waited for; a length out of bounds is refused', () => {
  expect(requestLength(Uint8Array.of(0, 0, 1))).toBeUndefined();
  expect(() => requestLength(Uint8Array.of(0, 0, 0, 0))).toThrow(/request length: 0/);
  expect(() => requestLength(Uint8Array.of(255, 255, 255, 255))).toThrow(`1 to ${maxRequestBytes} octets`);
});

test.each([
  ['text', 'ADD', /request: "3 octets": expected JSON/],
  ['a number', '1', /request\.stdin: missing/],
  ['no stdin', '{"env":{}}', /request\.stdin: missing/],
  ['no env', '{"stdin":""}', /request\.env: missing/],
  ['an env that is no text', '{"stdin":"","env":{"CNI_COMMAND":1}}', /request\.env\.CNI_COMMAND/],
])('refuses %s', (_what, body, message) => expect(() => parseBody(bytes(body))).toThrow(message));

test('refuses octets that are no UTF-8', () => {
  expect(() => parseBody(Uint8Array.of(0x22, 0xff, 0x22))).toThrow(/expected JSON in UTF-8/);
});
