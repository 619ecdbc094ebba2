import { endianness } from 'node:os';
import { describe, expect, test } from 'vitest';
import { interfaceIndex, md5Structure, socketAddress } from '../../../src/kernel/socket.ts';
import { KernelError } from '../../../src/kernel/types.ts';
import { parseIp } from '../../../src/model/address.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe.runIf(endianness() === 'LE')('structures of the kernel', () => {
  test('socket addresses: family in host order, port and address in network order', () => {
    expect(hex(socketAddress(parseIp('10.0.0.1'), 179))).toBe('020000b30a0000010000000000000000');
    expect(hex(socketAddress(parseIp('fe80::1'), 179, 3))).toBe(
      '0a0000b300000000fe80000000000000000000000000000103000000',
    );
  });

  test('a key for one address, and one for a prefix', () => {
    const one = md5Structure(parseIp('10.0.0.1'), undefined, Buffer.from('secret'));
    expect(one).toHaveLength(216);
    expect(hex(one.subarray(0, 8))).toBe('020000000a000001');
    expect(hex(one.subarray(128, 144))).toBe('00000600000000007365637265740000');
    expect(hex(md5Structure(parseIp('10.0.0.0'), 24, Buffer.from('x')).subarray(128, 132))).toBe('01180100');
  });
});

test('a device that is not there is an error of the kernel, with its name', () => {
  expect(interfaceIndex('lo')).toBe(1);
  expect(() => interfaceIndex('nosuchdevice')).toThrow(KernelError);
  expect(() => interfaceIndex('nosuchdevice')).toThrow(/device nosuchdevice: ENODEV/);
});
