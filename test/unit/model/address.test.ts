import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import {
  cidrParts,
  compareIp,
  contains,
  hostCidr,
  ipBytes,
  ipFromNumber,
  ipNumber,
  parseCidr,
  parseIp,
  splitCidr,
} from '../../../src/model/address.ts';

describe('addresses', () => {
  // RFC 5952 §4: leading zeros, the longest run of zeros, the first of two equal runs, lower case.
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::A', '2001:db8::a'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::ecee:eeff:feee:eeee', 'fe80::ecee:eeff:feee:eeee'],
    ['0::ffff', '::ffff'],
  ])('%s reads as %s', (text, canonical) => expect(parseIp(text)).toBe(canonical));

  test.each(['', '10.0.0', '10.0.0.256', '010.0.0.1', '10.0.0.1/32', 'fe80::1%eth0', 'x', '1:2', ':::', '10.0.0.1 '])(
    '%j is refused by name',
    (text) => {
      expect(() => parseIp(text, 'spec.ip')).toThrow(InputError);
      expect(() => parseIp(text, 'spec.ip')).toThrow(/spec\.ip/);
    },
  );

  test('octets keep leading zeros', () => {
    expect([...ipBytes('0.0.0.1')]).toEqual([0, 0, 0, 1]);
    expect([...ipBytes('::1')]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect([...ipBytes('ff00::')].slice(0, 2)).toEqual([0xff, 0]);
  });
});

describe('prefixes', () => {
  test.each([
    ['10.65.3.70/26', '10.65.3.64/26'],
    ['10.0.0.1', '10.0.0.1/32'],
    ['255.255.255.255/0', '0.0.0.0/0'],
    ['fd00:65::7f/122', 'fd00:65::40/122'],
    ['::1', '::1/128'],
  ])('%s is %s', (text, canonical) => expect(parseCidr(text)).toBe(canonical));

  test.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/1e1', '10.0.0.0/ 8', 'fd00::/129', '/8'])(
    '%j is refused',
    (text) => expect(() => parseCidr(text)).toThrow(InputError),
  );

  test('host bits survive where they are asked for', () => {
    expect(splitCidr('10.65.3.70/26')).toEqual({ address: '10.65.3.70', length: 26, family: 4 });
    expect(cidrParts(parseCidr('10.65.3.70/26'))).toEqual({ address: '10.65.3.64', length: 26, family: 4 });
  });

  test('containment knows families, lengths and borders', () => {
    const block = parseCidr('10.65.3.64/26');
    expect(contains(block, parseIp('10.65.3.64'))).toBe(true);
    expect(contains(block, parseIp('10.65.3.127'))).toBe(true);
    expect(contains(block, parseIp('10.65.3.128'))).toBe(false);
    expect(contains(block, parseCidr('10.65.3.0/24'))).toBe(false);
    expect(contains(parseCidr('0.0.0.0/0'), parseIp('::1'))).toBe(false);
    expect(contains(parseCidr('::/0'), parseIp('fd00::1'))).toBe(true);
  });

  test('order is numeric, IPv4 first', () => {
    const sorted = ['10.0.0.10', '10.0.0.9', '::1', '9.0.0.1'].map((text) => parseIp(text)).sort(compareIp);
    expect(sorted).toEqual(['9.0.0.1', '10.0.0.9', '10.0.0.10', '::1']);
  });

  test('numbers and text agree', () => {
    expect(ipNumber(parseIp('10.0.0.1'))).toBe(0x0a000001n);
    expect(ipFromNumber(1n, 6)).toBe('::1');
    expect(hostCidr(parseIp('::1'))).toBe('::1/128');
  });
});
