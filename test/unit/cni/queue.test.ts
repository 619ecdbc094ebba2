import { expect, test } from 'vitest';
import { KeyedQueue, Slots } from '../../../src/cni/queue.ts';

const never = new AbortController().signal;

function gate(): { open: () => void; passed: Promise<void> } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, passed };
}

test('one key waits for itself, other keys do not', async () => {
  const queue = new KeyedQueue();
  const order: string[] = [];
  const first = gate();
  const a = queue.run('a', never, async () => {
    await first.passed;
    order.push('a1');
  });
  const again = queue.run('a', never, async () => void order.push('a2'));
  await queue.run('b', never, async () => void order.push('b'));
  first.open();
  await Promise.all([a, again]);
  expect(order).toEqual(['b', 'a1', 'a2']);
  await Promise.resolve();
  expect(queue.size).toBe(0);
});

test('a failing task does not hold up the next', async () => {
  const queue = new KeyedQueue();
  const failing = queue.run('a', never, () => Promise.reject(new Error('no')));
  const next = queue.run('a', never, async () => 'ran');
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('ran');
});

test('one who gives up waiting lets neither the next go early nor wait for ever', async () => {
  const queue = new KeyedQueue();
  const order: string[] = [];
  const first = gate();
  const a = queue.run('a', never, async () => {
    await first.passed;
    order.push('first');
  });
  const impatient = new AbortController();
  const given = queue.run('a', impatient.signal, async () => void order.push('never'));
  const last = queue.run('a', never, async () => void order.push('last'));
  impatient.abort();
  await expect(given).rejects.toMatchObject({ code: 11 });
  first.open();
  await Promise.all([a, last]);
  expect(order).toEqual(['first', 'last']);
});

test('slots bound what runs at a time, failures included', async () => {
  const slots = new Slots(2);
  let running = 0;
  let most = 0;
  const task = async (fails: boolean) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    if (fails) throw new Error('no');
  };
  await Promise.allSettled([true, false, true, false, false].map((fails) => slots.run(() => task(fails))));
  expect(most).toBe(2);
  expect(running).toBe(0);
});
