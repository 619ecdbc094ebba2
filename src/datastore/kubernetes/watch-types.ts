import { type Clock, pause } from '../../base/clock.ts';
import { type Event, keyText, StoreUnavailableError } from '../store.ts';
import { merge } from './merge.ts';
import { type ApiResource, resourceId } from './resources.ts';
import type { Revisions } from './revision.ts';
import type { Source } from './source.ts';
import { readObject, sameRevision } from './sources.ts';
import { type ApiEvent, type WatchDeps, watchResource } from './watch.ts';

/**
 * Changes of all the sources, each resource from where its list ended; in order within a resource.
 * @param probeMs after this long without a word from the server it must prove that it is alive
 * @throws GoneError, StoreUnavailableError; TypeError when a resource was not listed
 */
export async function* watchTypes(
  deps: WatchDeps & { readonly probeMs: number },
  sources: readonly Source[],
  from: Revisions,
  signal: AbortSignal,
): AsyncGenerator<readonly Event[], void> {
  const byResource = Map.groupBy(sources, ({ resource }) => resourceId(resource));
  const heard = { at: deps.clock.monotonic() };
  const opens = [...byResource].map(([id, group]) => (end: AbortSignal) => {
    const at = from.get(id);
    const resource = group[0]?.resource;
    if (at === undefined || resource === undefined) throw new TypeError(`${id} is to be watched, but was not listed`);
    return translated(deps, resource, group, at, end);
  });
  const guard = (end: AbortSignal) => prove(deps, heard, end);
  for await (const events of merge([...opens, guard], signal)) {
    heard.at = deps.clock.monotonic();
    if (events.length > 0) yield events;
  }
}

async function* translated(
  deps: WatchDeps,
  resource: ApiResource,
  sources: readonly Source[],
  at: string,
  signal: AbortSignal,
): AsyncGenerator<readonly Event[], void> {
  const told = new Told();
  for await (const batch of watchResource(deps, resource, at, signal))
    yield batch.flatMap((event) => sources.flatMap((source) => told.fresh(source, event)));
}

function eventOf(source: Source, { type, object }: ApiEvent): Event | undefined {
  if (type === 'DELETED') {
    const key = source.keyOf(object);
    return key && { op: 'delete', key };
  }
  const reading = readObject(source, object);
  switch (reading.is) {
    case 'set':
      return { op: 'set', entry: reading.entry };
    case 'invalid':
      return { op: 'invalid', entry: reading.entry };
    case 'gone':
      return { op: 'delete', key: reading.key };
    case 'none':
      return undefined;
  }
}

/** What was told of objects that change for reasons that are no matter: the same is not told twice. */
class Told {
  readonly #last = new Map<string, string>();

  fresh(source: Source, change: ApiEvent): readonly Event[] {
    const event = eventOf(source, change);
    if (event === undefined) return [];
    if (!source.digest) return [event];
    const text = keyText(event.op === 'delete' ? event.key : event.entry.key);
    const now = event.op === 'set' ? event.entry.revision : event.op;
    const before = this.#last.get(text);
    if (change.type === 'DELETED') this.#last.delete(text);
    else this.#last.set(text, now);
    return before !== undefined && event.op !== 'invalid' && sameRevision(before, now) ? [] : [event];
  }
}

/** A server that went silent may be gone without a word: while nothing comes, it is asked for its version. */
async function* prove(
  { server, clock, timeoutMs, probeMs }: { probeMs: number } & WatchDeps & { readonly clock: Clock },
  heard: { readonly at: number },
  signal: AbortSignal,
): AsyncGenerator<readonly Event[], void> {
  while (!signal.aborted) {
    const silentMs = clock.monotonic() - heard.at;
    await pause(clock, Math.max(probeMs - silentMs, probeMs / 10), signal);
    if (signal.aborted) return;
    if (clock.monotonic() - heard.at < probeMs) continue;
    const answer = await server.call({ method: 'GET', path: '/version', withinMs: timeoutMs });
    if (answer.status >= 500) throw new StoreUnavailableError(`the Kubernetes API answers ${answer.status}`);
    yield [];
  }
}
