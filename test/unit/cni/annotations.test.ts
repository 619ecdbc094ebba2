import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { addressWishes } from '../../../src/cni/annotations.ts';

const prefix = 'cni.projectcalico.org/';

/** Annotations by their names without Calico's prefix. */
function wishes(pod: Readonly<Record<string, string>>, namespace: Readonly<Record<string, string>> = {}, bare = false) {
  const named = (all: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(all).map(([name, text]) => [prefix + name, text]));
  return addressWishes({ name: 'shop/cart', pod: { other: 'x', ...named(pod) }, namespace: named(namespace), bare });
}

test.each([
  ['nothing', {}, {}, { pools: {} }],
  ['an address', { ipAddrs: '["10.65.0.9"]' }, {}, { addresses: ['10.65.0.9'], families: [4], pools: {} }],
  [
    'one of each family, which say the families',
    { ipAddrs: '["FD00::0:9","10.65.0.9"]', ipFamilies: '["IPv4"]' },
    {},
    { addresses: ['fd00::9', '10.65.0.9'], families: [6, 4], pools: {} },
  ],
  [
    'pools',
    { ipv4pools: '["a","10.0.0.0/8"]', ipv6pools: '["b"]' },
    {},
    { pools: { 4: ['a', '10.0.0.0/8'], 6: ['b'] } },
  ],
  [
    'the pod before its namespace, each family by itself',
    { ipv4pools: '["a"]' },
    { ipv4pools: '["c"]', ipv6pools: '["d"]' },
    { pools: { 4: ['a'], 6: ['d'] } },
  ],
  ['families', {}, { ipFamilies: '["IPv6","IPv4","IPv6"]' }, { pools: {}, families: [4, 6] }],
  ['a MAC', { hwAddr: '66:0A:0b:0c:0d:0e' }, {}, { pools: {}, mac: '66:0a:0b:0c:0d:0e' }],
  [
    'empty texts and lists',
    { ipAddrs: '', ipv4pools: '[]' },
    { hwAddr: '66:0a:0b:0c:0d:0e', ipAddrs: '["10.65.0.9"]' },
    { pools: {} },
  ],
])('%s', (_what, pod, namespace, expected) => {
  expect(wishes(pod, namespace)).toEqual(expected);
});

test.each([
  [{ ipAddrs: '10.65.0.9' }, 'ipAddrs: "10.65.0.9": expected a JSON list'],
  [{ ipAddrs: '["10.65.0.9","10.65.0.10"]' }, 'expected one address, or one of each family'],
  [{ ipAddrs: '[]' }, 'expected one address'],
  [{ ipAddrs: '["10.65.0.9/32"]' }, 'expected an IP address'],
  [{ ipAddrs: '[10]' }, 'expected a JSON list'],
  [{ ipv4pools: '{"a":1}' }, 'ipv4pools: "{\\"a\\":1}": expected a JSON list'],
  [{ ipFamilies: '["ipv4"]' }, 'expected IPv4 or IPv6'],
  [{ ipFamilies: '["constructor"]' }, 'expected IPv4 or IPv6'],
  [{ hwAddr: '01:00:5e:00:00:01' }, 'expected a unicast MAC'],
  [{ hwAddr: '00:00:00:00:00:00' }, 'expected a unicast MAC'],
  [{ ipAddrsNoIpam: '["1.2.3.4"]' }, 'ipAddrsNoIpam'],
  [{ floatingIPs: '["1.2.3.4"]' }, 'floatingIPs'],
])('%o is refused by name', (pod, message) => {
  expect(() => wishes(pod)).toThrow(message);
  expect(() => wishes(pod)).toThrow('Pod(shop/cart).metadata.annotations.cni.projectcalico.org/');
});

test('addresses past IPAM, where the network configuration lets pods name them', () => {
  const given = wishes({ ipAddrsNoIpam: '["fd00::9","192.0.2.9"]', ipv4pools: '["a"]' }, {}, true);
  expect(given).toEqual({ bareAddresses: ['fd00::9', '192.0.2.9'], families: [6, 4], pools: { 4: ['a'] } });
  expect(wishes({ ipAddrsNoIpam: ' ' })).toEqual({ pools: {} });
  const ofNamespace = wishes({}, { ipAddrsNoIpam: '["192.0.2.9"]' }, true);
  expect(ofNamespace).toEqual({ pools: {} });
});

test.each([
  '0.0.0.0',
  '127.0.0.1',
  '169.254.1.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  'fe80::1',
  'ff02::1',
])('no pod may have %s', (address) => {
  const ask = () => wishes({ ipAddrsNoIpam: JSON.stringify([address]) }, {}, true);
  expect(ask).toThrow('expected an address that a pod can have');
});

test.each([
  [{ ipAddrsNoIpam: '["192.0.2.9","192.0.2.10"]' }, 'expected one address, or one of each family'],
  [{ ipAddrsNoIpam: '["192.0.2.0/24"]' }, 'expected an IP address'],
  [{ ipAddrsNoIpam: '[]' }, 'expected one address'],
  [{ ipAddrsNoIpam: '["192.0.2.9"]', ipAddrs: '["10.65.0.9"]' }, 'expected none beside ipAddrs'],
])('%o is refused although pods may name addresses past IPAM', (pod, message) => {
  expect(() => wishes(pod, {}, true)).toThrow(message);
});

test('a fault of the namespace is told as one', () => {
  expect(() => wishes({}, { ipFamilies: '[]' })).toThrow('Namespace(shop).metadata.annotations');
});

test('whatever a pod writes is understood or refused by name', () => {
  const names = ['ipAddrs', 'ipv4pools', 'ipv6pools', 'ipFamilies', 'hwAddr', 'ipAddrsNoIpam', 'floatingIPs'];
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.array(fc.ipV4()).map((list) => JSON.stringify(list)),
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), text), fc.boolean(), (pod, bare) => {
      try {
        const { addresses = [], bareAddresses = [], families = [] } = wishes(pod, {}, bare);
        expect(bareAddresses.length).toBeLessThanOrEqual(bare && addresses.length === 0 ? 2 : 0);
        expect(addresses.length).toBeLessThanOrEqual(2);
        expect(families.every((family) => family === 4 || family === 6)).toBe(true);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
        expect((thrown as InputError).field).toContain(prefix);
      }
    }),
  );
});
