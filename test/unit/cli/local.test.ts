import { expect, test } from 'vitest';
import { findingsOf, mtuText } from '../../../src/cli/local.ts';
import type { FelixStatus } from '../../../src/felix/status.ts';

const healthy: FelixStatus = {
  node: 'n1',
  pid: 1,
  bgp: false,
  inSync: true,
  datastore: { connected: true },
  feed: { connected: false, complete: false, routes: 0, stale: 0 },
  endpoints: [],
  routes: { counts: { localWorkload: 0, vxlan: 0, ipip: 0, noEncap: 0, bgp: 0, blackhole: 0 }, list: [] },
  tunnels: [{ kind: 'ipip', device: 'tunl0', state: 'up', mtu: 1480 }],
  failures: [],
  invalid: [],
};
const findings = (change: Partial<FelixStatus>) =>
  findingsOf({ running: true, status: { ...healthy, ...change } }, { running: false, reason: 'no bgp here' }, []);

test('a node without BGP on which everything stands has no findings', () => {
  expect(findings({})).toEqual([]);
});

test('a kernel without IPIP is a finding that says whom it hits and what helps', () => {
  const lacking = { kind: 'ipip', device: 'tunl0', state: 'unsupported', mtu: 1480, reason: 'EOPNOTSUPP' } as const;
  expect(findings({ tunnels: [{ ...lacking, pools: ['IPPool/p', 'IPPool/q'] }] })).toEqual([
    'the kernel has no ipip, so tunl0 cannot be made (EOPNOTSUPP); IPPool/p, IPPool/q: not carried to other nodes; load the module (modprobe ipip), or annotate the pools with margay.io/tunnelFallback: VXLAN',
  ]);
  const vxlan = { ...lacking, kind: 'vxlan', device: 'vxlan.calico' } as const;
  expect(findings({ tunnels: [vxlan] })).toEqual([
    'the kernel has no vxlan, so vxlan.calico cannot be made (EOPNOTSUPP); load the module (modprobe vxlan)',
  ]);
  // Every pool has a fallback.
  expect(findings({ tunnels: [{ ...lacking, pools: [] }] })).toEqual([]);
});

test('pods with another MTU than new ones are counted, and the first of them named', () => {
  const one = (name: string, mtu?: number) =>
    ({ key: name, name, interface: 'cali1', addresses: [], state: 'programmed', ...(mtu && { mtu }) }) as const;
  expect(mtuText(undefined, [one('a', 1500)])).toBe('');
  expect(mtuText(1450, [one('a')])).toBe(', MTU 1450');
  const many = ['a', 'b', 'c', 'd'].map((name) => one(name, 1500));
  expect(mtuText(1450, [...many, one('e')])).toBe(', MTU 1450; 4 with another (a 1500, b 1500, c 1500, …)');
});
