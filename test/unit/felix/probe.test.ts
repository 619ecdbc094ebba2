import { expect, test } from 'vitest';
import { compare } from '../../../src/felix/explain/probe.ts';
import type { Transport } from '../../../src/policy/ends.ts';

const tcp: Transport = { protocol: 'tcp', port: 80 };
const udp: Transport = { protocol: 'udp', port: 53 };

test.each([
  ['allow', tcp, 'answered', [], true],
  ['allow', tcp, 'refused', [], true],
  ['allow', tcp, 'silent', [], false],
  ['allow', udp, 'silent', [], undefined],
  ['allow', udp, 'silent', ['deny'], false],
  ['allow', tcp, 'silent', ['allow'], false],
  ['allow', { protocol: 'icmp' }, 'silent', [], false],
  ['allow', tcp, 'unreachable', [], undefined],
  ['deny', tcp, 'silent', [], true],
  ['deny', udp, 'silent', ['deny'], true],
  ['deny', tcp, 'answered', [], false],
  ['deny', tcp, 'refused', [], false],
  ['deny', tcp, 'unreachable', ['allow', 'deny'], true],
  // Of several endpoints of a service, it met one.
  ['mixed', tcp, 'silent', ['deny'], undefined],
] as const)('computed %s, %j %s, told %j: %s', (verdict, transport, outcome, told, agrees) => {
  expect(
    compare(
      verdict,
      transport.protocol,
      { outcome },
      told.map((each) => ({ verdict: each })),
    ),
  ).toBe(agrees);
});
