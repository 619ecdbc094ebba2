import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../../../src/base/clock.ts';
import { createLog } from '../../../../src/base/log.ts';
import { BfdAgent } from '../../../../src/bgp/bfd/agent.ts';
import type { BfdTarget } from '../../../../src/bgp/bfd/settings.ts';
import { parseIp } from '../../../../src/model/address.ts';
import { until } from '../../../support/wait.ts';

const lines: string[] = [];
const log = createLog('test', 'info', { write: (line) => void lines.push(line) });
/** The local address is none of this host's, so that nothing is ever sent. */
const target: BfdTarget = {
  name: 'tor',
  address: parseIp('192.0.2.2'),
  localAddress: parseIp('192.0.2.1'),
  minTxMs: 300,
  minRxMs: 300,
  multiplier: 3,
  multihop: false,
};

let agent: BfdAgent;

afterEach(() => agent.close());

test('the thread runs from the sources, and says why a session cannot be', async () => {
  agent = new BfdAgent({ clock: systemClock, log });
  const watch = agent.watch(target, () => expect.fail('nothing was up'));
  // Another process of this host may have the port.
  const problem = await until(() => watch.status().problem, { within: 8000, what: 'the problem' });
  expect(problem).toMatch(/EADDRNOTAVAIL|EADDRINUSE/);
  expect(watch.status().state).toBe('Down');
  expect(lines.join('')).toContain('no BFD session');
  watch.close();
  await agent.close();
});

test('more sessions than the limit are refused with a reason', () => {
  agent = new BfdAgent({ clock: systemClock, log, limit: 0 });
  const refused = agent.watch(target, () => expect.fail('nothing was up'));
  expect(refused.status()).toMatchObject({ state: 'Down', problem: 'more than 0 BFD sessions' });
  refused.close();
  expect(agent.counts().received).toBe(0);
});
