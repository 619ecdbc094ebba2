import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { addressWishes } from '../../../src/cni/annotations.ts';

const prefix = 'cni.projectcalico.org/';

/** Annotations by their names without Calico's prefix. */
function wishes(pod: Readonly<Record<string, string>>, namespace: Readonly<Record<string, string>> = {}) {
  const named = (all: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(all).map(([name, text]) => [prefix + name, text]));
  return addressWishes({ name: 'shop/cart', pod: { other: 'x', ...named(pod) }, namespace: named(namespace) });
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
    fc.property(fc.dictionary(fc.constantFrom(...names), text), (pod) => {
      try {
        const { addresses = [], families = [] } = wishes(pod);
        expect(addresses.length).toBeLessThanOrEqual(2);
        expect(families.every((family) => family === 4 || family === 6)).toBe(true);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
        expect((thrown as InputError).field).toContain(prefix);
      }
    }),
  );
});
