import { expect, test } from 'vitest';
import { answers, echoRequest } from '../../../src/kernel/probe.ts';

/** What a raw socket gives for a reply to an echo. */
function reply(request: Uint8Array, family: 4 | 6): Uint8Array {
  const message = request.slice();
  message[0] = family === 4 ? 0 : 129;
  message.fill(0, 2, 4);
  if (family === 6) return message;
  return Uint8Array.from([0x46, ...new Array(23).fill(0), ...message]);
}

test.each([4, 6] as const)('IPv%i: an echo is answered by what carries it back, and by nothing else', (family) => {
  const request = echoRequest(family);
  expect(answers(request, reply(request, family), family)).toBe(true);
  expect(answers(request, reply(echoRequest(family), family), family)).toBe(false);
  const again = family === 4 ? Uint8Array.from([0x45, ...new Array(19).fill(0), ...request]) : request;
  expect(answers(request, again, family)).toBe(false);
  expect(answers(request, reply(request, family).subarray(0, -1), family)).toBe(false);
  expect(answers(request, new Uint8Array(), family)).toBe(false);
});

test('the checksum of an IPv4 echo holds', () => {
  const view = new DataView(echoRequest(4).buffer);
  let sum = 0;
  for (let at = 0; at < 16; at += 2) sum += view.getUint16(at);
  expect((sum & 0xffff) + (sum >>> 16)).toBe(0xffff);
});
