import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { warmUp } from '../../../src/bgp/warm-up.ts';
import { rehearsedUpdates } from '../../../src/bgp/warm-up-updates.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { until } from '../../support/wait.ts';

/** Sockets and timers of this process that keep it alive. */
function resources(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => name.startsWith('TCP') || name === 'Timeout')
    .sort();
}

function warnings(): { log: ReturnType<typeof createLog>; lines: string[] } {
  const lines: string[] = [];
  return { lines, log: createLog('test', 'warn', { write: (line) => void lines.push(line) }) };
}

test('routes are rehearsed without a word, and no socket or timer stays', async () => {
  const before = resources();
  const { log, lines } = warnings();
  await warmUp(log, new AbortController().signal);
  expect(lines).toEqual([]);
  await until(() => resources().length <= before.length, { within: 5000, what: 'an end of sockets and timers' });
});

test('a rehearsal ends when it is told to', async () => {
  const before = resources();
  const { log, lines } = warnings();
  const stop = new AbortController();
  const done = warmUp(log, stop.signal);
  setImmediate(() => stop.abort());
  await done;
  expect(lines).toEqual([]);
  await until(() => resources().length <= before.length, { within: 5000, what: 'an end of sockets and timers' });
});

test('what is rehearsed is faultless, comes and goes, and is told at last', () => {
  const codec = { fourOctetAs: true, external: false };
  let withdrawn = 0;
  let announced = 0;
  for (const octets of rehearsedUpdates({ prefixes: 64, rounds: 2, lone: 4 })) {
    for (let at = 0; at < octets.length; ) {
      const frame = readFrame(octets, at);
      if (!frame) throw new Error('half a message');
      at += frame.length;
      const update = readUpdate(frame.body, codec, new Set([4 as const]));
      expect(update.faults).toEqual([]);
      for (const { octets: gone } of update.withdrawn) withdrawn += gone.length / 5;
      for (const { block } of update.announced) announced += block.octets.length / 5;
    }
  }
  expect(announced).toBe(64 * 3 + 7 * 2 + 4);
  expect(withdrawn).toBe(64 + 7 + 7 + 4);
});
