import { expect, test } from 'vitest';
import { flowLine, flowsPage } from '../../../src/cli/flows.ts';
import type { Flow } from '../../../src/felix/flow-log/flow.ts';
import { parseIp } from '../../../src/model/address.ts';

const flow: Flow = {
  number: 1,
  at: '2026-11-21T17:00:00.000Z',
  verdict: 'deny',
  direction: 'ingress',
  protocol: 6,
  source: { address: parseIp('fd00::1'), port: 40000 },
  destination: { address: parseIp('fd00::2'), port: 5432, namespace: 'shop', pod: 'db' },
  reason: { by: 'policy', tier: 'default', policy: 'NetworkPolicy shop/db', rule: 1 },
  chain: 'cali-pi-x',
};

test.each<[Partial<Flow>, string]>([
  [{}, 'denied  ingress tcp [fd00::1]:40000 -> shop/db:5432: rule 2 of NetworkPolicy shop/db'],
  [
    {
      verdict: 'allow',
      direction: 'egress',
      protocol: 58,
      icmp: { type: 128, code: 0 },
      source: { address: parseIp('fd00::1') },
      destination: { address: parseIp('fd00::9') },
      reason: { by: 'profile', policy: 'Namespace shop', rule: 0 },
    },
    'allowed egress  icmpv6 type 128 code 0 fd00::1 -> fd00::9: rule 1 of Namespace shop',
  ],
  [
    { reason: { by: 'tierDefault', tier: 'net' }, protocol: 47 },
    'denied  ingress protocol 47 [fd00::1]:40000 -> shop/db:5432: policies of tier net apply and none of their rules matches',
  ],
  [{ reason: { by: 'noProfile' } }, expect.stringMatching(/: no policy and no profile allows it$/)],
  [{ reason: { by: 'unknown' } }, expect.stringMatching(/: a policy that is gone since \(chain cali-pi-x\)$/)],
])('a line: %j', (part, expected) => {
  const line = flowLine({ ...flow, ...part });
  expect(line.slice(0, 25)).toBe('2026-11-21T17:00:00.000Z ');
  expect(line.slice(25)).toEqual(expected);
});

test('the page says why there is nothing, and what is missing', () => {
  const list = { telling: 'denied', told: 0, lost: 0, untold: 0, flows: [] } as const;
  expect(flowsPage(list)).toBe('none\n');
  expect(flowsPage({ ...list, telling: 'none' })).toMatch(/^no verdicts are told/);
  expect(
    flowsPage({ ...list, problem: 'EPERM', lost: 7, untold: 3, flows: [flow] })
      .split('\n')
      .slice(1),
  ).toEqual([
    '! EPERM',
    '! 7 more that came too fast to be read',
    '! 3 more denied packets, of rules that deny too many for each to be told',
    '',
  ]);
});
