import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { TighteningManager } from '../../../src/felix/managers/tightening.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

function setUp() {
  const clock = new ManualClock();
  const state: { version: unknown; fails: boolean } = { version: undefined, fails: false };
  const walks: unknown[] = [];
  const cut = async () => {
    walks.push(state.version);
    if (state.fails) throw new Error('no netlink');
    return 1;
  };
  const manager = new TighteningManager(() => state.version, cut, clock, createLog('test', 'silent'));
  const stop = new AbortController();
  const running = manager.run(stop.signal);
  const end = async () => {
    stop.abort();
    await running;
  };
  return { clock, state, walks, manager, end };
}

test('a pass with a changed policy is followed by one walk, and no more than one a second', async () => {
  const { clock, state, walks, manager, end } = setUp();
  manager.passed();
  state.version = 'a';
  manager.passed();
  await until(() => walks.length === 1 && clock.armed > 0, { within: 5000, what: 'the first walk' });
  manager.passed();
  state.version = 'b';
  manager.passed();
  state.version = 'c';
  manager.passed();
  clock.advance(999);
  expect(walks).toEqual(['a']);
  clock.advance(1);
  await until(() => walks.length === 2 && clock.armed > 0, { within: 5000, what: 'the second walk' });
  clock.advance(5000);
  manager.passed();
  clock.advance(5000);
  expect(walks).toEqual(['a', 'c']);
  await end();
});

test('what could not be cut is tried again', async () => {
  const { clock, state, walks, manager, end } = setUp();
  state.version = 'a';
  state.fails = true;
  manager.passed();
  await until(() => walks.length === 1 && clock.armed > 0, { within: 5000, what: 'the first walk' });
  state.fails = false;
  await until(
    () => {
      clock.advance(500);
      return walks.length === 2;
    },
    { within: 5000, what: 'the second walk' },
  );
  await end();
});
