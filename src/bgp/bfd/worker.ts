import type { Socket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';
import { Backoff } from '../../base/backoff.ts';
import { systemClock } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import { type Family, familyOf } from '../../model/address.ts';
import { Engine } from './engine.ts';
import {
  type BfdSender,
  type BfdTarget,
  type Counter,
  counters,
  type Order,
  type Report,
  type WorkerInput,
} from './settings.ts';
import { destinationOf, multihopPort, openReceiver, openSender, singleHopPort } from './sockets.ts';

/*
 * The BFD thread: sockets and timers of all sessions, out of reach of the main thread's garbage collection and load.
 * Loaded as TypeScript from the sources, or as a bundle of its own beside the program's.
 */

/** Milliseconds until a socket that could not be had is tried again. */
const retry = { first: 1000, most: 30_000 } as const;

const port = parentPort;
if (!port) throw new Error('the BFD thread was started as a program');
const { counts } = workerData as WorkerInput;
const count = (counter: Counter): void => void Atomics.add(counts, counters.indexOf(counter), 1);
const report = (message: Report): void => port.postMessage(message);

const engine = new Engine({
  clock: systemClock,
  random: Math.random,
  afterReads: (action) => void setImmediate(action),
  count,
  changed: (key, status, change) => report({ type: 'status', key, status, ...(change ? { change } : {}) }),
});
const receivers = new Map<string, Socket>();
/** By key: what ends a session, or the wait for its sockets. */
const endings = new Map<number, () => void>();

port.on('message', (order: Order) => {
  switch (order.do) {
    case 'open':
      return open(order.key, order.target, new Backoff(retry.first, retry.most));
    case 'close':
      return close(order.key);
    case 'stop':
      return stop();
  }
});

/** Opens the sockets and starts the session; what fails is told and tried again later. */
function open(key: number, target: BfdTarget, backoff: Backoff): void {
  const family = familyOf(target.address);
  const broken = (error: Error): void => {
    close(key);
    postpone(key, target, backoff, error);
  };
  try {
    receive(family, target.multihop);
    const sender = openSender(target, Math.random, broken);
    const destination = target.multihop ? multihopPort : singleHopPort;
    const remote = destinationOf(target);
    let sending = 0;
    let ended = false;
    const settle = (): void => {
      if (ended && sending === 0) sender.close();
    };
    endings.set(key, () => {
      engine.close(key);
      ended = true;
      settle();
    });
    engine.open(key, target, (packet) => {
      sending++;
      sender.send(packet, destination, remote, (error) => {
        sending--;
        count(error ? 'sendErrors' : 'sent');
        settle();
      });
    });
  } catch (thrown) {
    postpone(key, target, backoff, thrown);
  }
}

function postpone(key: number, target: BfdTarget, backoff: Backoff, cause: unknown): void {
  report({ type: 'problem', key, problem: explain(cause) });
  endings.set(
    key,
    systemClock.after(backoff.next(), () => open(key, target, backoff)),
  );
}

function close(key: number): void {
  const end = endings.get(key);
  endings.delete(key);
  end?.();
}

/** Has one receiver for the family and kind; it stays once it is there. */
function receive(family: Family, multihop: boolean): void {
  const name = `${family} ${multihop}`;
  if (receivers.has(name)) return;
  const heard = (payload: Uint8Array, from: BfdSender): void => engine.receive(payload, from, multihop);
  const socket = openReceiver(family, multihop, heard, (error) => {
    throw new Error(`BFD receiver IPv${family}`, { cause: error });
  });
  receivers.set(name, socket);
}

/** The last packets leave before the thread ends: it does so once nothing is open any more. */
function stop(): void {
  for (const key of [...endings.keys()]) close(key);
  for (const socket of receivers.values()) socket.close();
  port?.close();
}
