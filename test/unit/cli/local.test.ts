import { expect, test } from 'vitest';
import { findingsOf, mtuText, tunnelText } from '../../../src/cli/local.ts';
import type { FelixStatus } from '../../../src/felix/status.ts';

const healthy: FelixStatus = {
  node: 'n1',
  pid: 1,
  bgp: false,
  inSync: true,
  datastore: { connected: true },
  feed: { connected: false, complete: false, routes: 0, stale: 0 },
  endpoints: [],
  routes: { counts: { localWorkload: 0, vxlan: 0, ipip: 0, udp: 0, noEncap: 0, bgp: 0, blackhole: 0 } },
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
    'the kernel has no ipip, so tunl0 cannot be made (EOPNOTSUPP); IPPool/p, IPPool/q: not carried to other nodes; load the module (modprobe ipip), or annotate the pools with margay.io/tunnelFallback: VXLAN,UDP',
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

test('the userspace tunnel says that it is slow, and what became of its packets', () => {
  const udp = { kind: 'udp', device: 'udp.margay', mtu: 1472 } as const;
  expect(tunnelText({ ...udp, state: 'up', packets: { sent: 3, received: 2, malformed: 0, unknownSource: 1 } })).toBe(
    'udp.margay up (slow: carried by felix itself), MTU 1472, 3 sent, 2 received, 1 unknownSource',
  );
  expect(tunnelText({ kind: 'ipip', device: 'tunl0', state: 'waiting', mtu: 1480 })).toBe('tunl0 waiting, MTU 1480');
  const lacking = { ...udp, state: 'unsupported', reason: 'EOPNOTSUPP', pools: ['IPPool/p'] } as const;
  expect(findings({ tunnels: [lacking] })).toEqual([
    'the kernel has no udp, so udp.margay cannot be made (EOPNOTSUPP); IPPool/p: not carried to other nodes; load the module (modprobe tun)',
  ]);
});
