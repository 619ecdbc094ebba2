import { parentPort, workerData } from 'node:worker_threads';
import { explain } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import { createEtcdKv } from '../etcd.ts';
import { GoneError, StoreUnavailableError } from '../store.ts';
import {
  type Answer,
  batchesAhead,
  type Call,
  entriesAtOnce,
  type Failure,
  type Result,
  type WorkerInput,
} from './messages.ts';
import { Window } from './window.ts';

/*
 * The thread that speaks to etcd. Loaded as TypeScript from the sources, or as a bundle of its own beside the
 * program's.
 */

interface Watch {
  readonly stop: AbortController;
  /** Of batches. */
  readonly window: Window;
}

const port = parentPort;
if (!port) throw new Error('the datastore thread was started as a program');
const { config, options } = workerData as WorkerInput;
const tell = (answer: Answer): void => port.postMessage(answer);
// What is worth a line is for the main thread's log to say, whose level may change.
const log = createLog('etcd', 'debug', { write: (line) => tell({ type: 'log', line }) });
const kv = createEtcdKv(config, log, options);
const watches = new Map<number, Watch>();

port.on('message', (call: Call) => {
  switch (call.do) {
    case 'end':
      return end(watches.get(call.id));
    case 'more':
      return watches.get(call.id)?.window.used(call.batches);
    default:
      return void answer(call);
  }
});

type Question = Exclude<Call, { do: 'end' | 'more' }>;

async function answer(call: Question): Promise<void> {
  const { id } = call;
  try {
    tell({ type: 'done', id, result: await carryOut(call) });
  } catch (thrown) {
    tell({ type: 'failed', id, failure: failureOf(thrown) });
  }
}

async function carryOut(call: Question): Promise<Result> {
  switch (call.do) {
    case 'get':
      return { of: 'get', entry: await kv.get(call.key) };
    case 'commit':
      return { of: 'commit', commit: await kv.commit(call.writes) };
    case 'range':
      return { of: 'range', revision: await range(call.id, call.prefix, call.revision) };
    case 'put':
      await kv.put?.(call.key, call.value, call.ttlSeconds);
      return { of: 'put' };
    case 'watch':
      await watch(call.id, call.prefix, call.revision);
      return { of: 'watch' };
  }
}

async function range(id: number, prefix: string, revision: string | undefined): Promise<string> {
  const found = await kv.range(prefix, revision);
  for (let at = 0; at < found.entries.length; at += entriesAtOnce) {
    tell({ type: 'entries', id, entries: found.entries.slice(at, at + entriesAtOnce) });
  }
  return found.revision;
}

async function watch(id: number, prefix: string, revision: string): Promise<void> {
  const stop = new AbortController();
  const window = new Window(batchesAhead);
  watches.set(id, { stop, window });
  try {
    for await (const events of kv.watch(prefix, revision, stop.signal)) {
      tell({ type: 'events', id, events });
      await window.told();
    }
  } finally {
    watches.delete(id);
  }
}

function end(watch: Watch | undefined): void {
  watch?.stop.abort();
  watch?.window.end();
}

function failureOf(thrown: unknown): Failure {
  if (!(thrown instanceof Error)) return { kind: 'other', message: String(thrown) };
  const kind = thrown instanceof GoneError ? 'gone' : thrown instanceof StoreUnavailableError ? 'unavailable' : 'other';
  return { kind, message: thrown.message, ...(thrown.cause !== undefined && { cause: explain(thrown.cause) }) };
}
