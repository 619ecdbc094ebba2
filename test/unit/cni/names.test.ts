import { expect, test } from 'vitest';
import { endpointName, handleId, hostDeviceName, hostLinkLocal, hostMac } from '../../../src/cni/names.ts';

test('the host device of shop.cart-7d9 is the one that Calico makes', () => {
  expect(hostDeviceName('cali', 'shop', 'cart-7d9')).toBe('cali6672f9163e3');
});

test('dashes are doubled inside the parts of an endpoint name', () => {
  expect(endpointName('rack7-n3', 'cart-7d9', 'eth0')).toBe('rack7--n3-k8s-cart--7d9-eth0');
});

test('a handle is network and container', () =>
  expect(handleId('k8s-pod-network', '9c1f')).toBe('k8s-pod-network.9c1f'));

test('the IPv6 gateway is the EUI-64 address of the host MAC', () => {
  const [a = 0, ...rest] = hostMac.split(':').map((octet) => Number.parseInt(octet, 16));
  const id = [a ^ 2, ...rest.slice(0, 2), 0xff, 0xfe, ...rest.slice(2)];
  const groups = [0, 2, 4, 6].map((at) => (((id[at] ?? 0) << 8) | (id[at + 1] ?? 0)).toString(16));
  expect(hostLinkLocal).toBe(`fe80::${groups.join(':')}`);
});
