import type { Etcd3, IDuplexStream, IEvent, IWatchRequest, IWatchResponse } from 'etcd3';
import { type Clock, pause } from '../base/clock.ts';
import { prefixEnd } from './etcd-keys.ts';
import type { KvEvent } from './kv.ts';
import { GoneError, StoreUnavailableError } from './store.ts';

/*
 * One watch on one etcd member. The client library's own watcher reconnects silently and may take up after events it
 * never delivered (it trusts the header's revision, which is the store's, not the last event's). So this one speaks to
 * the stream itself and ends with an error as soon as the stream does; who watches lists again.
 */

export interface WatchRequest {
  readonly prefix: string;
  /** The last revision known; changes after it are wanted. */
  readonly revision: string;
  readonly signal: AbortSignal;
  /** Milliseconds for the member to confirm the watch. */
  readonly timeoutMs: number;
  /** Milliseconds between two proofs that the member is alive and has a quorum. */
  readonly probeMs: number;
}

/** A read that only a member with a quorum answers; rejects when it does not. */
export type Probe = () => Promise<unknown>;

/** @throws GoneError, StoreUnavailableError; ends without error when the signal aborts */
export async function* watchMember(
  client: Etcd3,
  clock: Clock,
  probe: Probe,
  request: WatchRequest,
): AsyncGenerator<readonly KvEvent[], void> {
  const { signal } = request;
  if (signal.aborted) return;
  const stream = await client.watchClient.watch();
  const watching = new AbortController();
  let failure: Error | undefined;
  const end = (reason?: Error) => {
    failure ??= reason;
    watching.abort();
    close(stream);
  };
  const onAbort = () => end();
  signal.addEventListener('abort', onAbort, { once: true });
  // The library marks its host failed, and closes its connections, on the error of a stream that is still writable.
  stream.on('error', () => watching.abort());
  const alive = { confirmed: false };
  const guard = keepProving(clock, probe, request, alive, watching.signal, end);
  try {
    stream.write({ create_request: createRequest(request) });
    // The library's type leaves out that the stream is a Node Duplex, which is read one response at a time.
    for await (const response of stream as unknown as AsyncIterable<IWatchResponse>) {
      refuseBroken(response, request.revision);
      alive.confirmed = true;
      if (response.events.length > 0) yield response.events.map(change);
    }
    throw new StoreUnavailableError('the watch stream ended');
  } catch (thrown) {
    if (signal.aborted) return;
    throw failure ?? thrown;
  } finally {
    signal.removeEventListener('abort', onAbort);
    end();
    await guard;
  }
}

/** Ends the watch when it is not confirmed in time, or when the member stops answering reads. */
async function keepProving(
  clock: Clock,
  probe: Probe,
  { timeoutMs, probeMs }: WatchRequest,
  alive: { readonly confirmed: boolean },
  signal: AbortSignal,
  end: (reason: Error) => void,
): Promise<void> {
  await pause(clock, timeoutMs, signal);
  if (!signal.aborted && !alive.confirmed)
    return end(new StoreUnavailableError(`no answer to a watch within ${timeoutMs} ms`));
  while (!signal.aborted) {
    await pause(clock, probeMs, signal);
    if (signal.aborted) return;
    try {
      await probe();
    } catch (cause) {
      return end(new StoreUnavailableError('the watched member stopped answering', { cause }));
    }
  }
}

function createRequest({ prefix, revision }: WatchRequest): IWatchRequest['create_request'] & object {
  const next = String(BigInt(revision) + 1n);
  return { key: Buffer.from(prefix), range_end: prefixEnd(prefix), start_revision: next, progress_notify: true };
}

/** `end` first: the library takes the cancellation of a writable stream for a failure of its host. */
function close(stream: IDuplexStream<IWatchRequest, IWatchResponse>): void {
  stream.end();
  stream.cancel();
}

function refuseBroken(response: IWatchResponse, revision: string): void {
  if (response.compact_revision !== '0')
    throw new GoneError(`revision ${revision} is compacted; the oldest kept is ${response.compact_revision}`);
  if (response.canceled) throw new StoreUnavailableError(`the watch was refused: ${response.cancel_reason}`);
  if (response.created && BigInt(response.header.revision) < BigInt(revision))
    throw new GoneError(
      `etcd went back from revision ${revision} to ${response.header.revision}: its data was restored`,
    );
}

function change(event: IEvent): KvEvent {
  const { kv } = event;
  const key = kv.key.toString();
  // The type says `Delete`, the wire `DELETE`.
  if (event.type.toUpperCase() === 'DELETE') return { op: 'delete', key, revision: kv.mod_revision };
  return { op: 'put', entry: { key, value: kv.value.toString(), revision: kv.mod_revision } };
}
