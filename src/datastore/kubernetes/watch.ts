import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { GoneError, StoreUnavailableError } from '../store.ts';
import { type ApiClient, parse } from './client.ts';
import type { ApiServer } from './http.ts';
import { type ApiObject, type ApiResource, collectionPath, resourceId } from './resources.ts';
import { notInstalled } from './revision.ts';
import { failureOf, type Status } from './status.ts';

/** A change as the API tells it. */
export interface ApiEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: ApiObject;
}

export interface WatchDeps {
  readonly server: ApiServer;
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds for the server to begin its answer. */
  readonly timeoutMs: number;
  /** Seconds after which the server ends a watch, plus up to as many, so that not all end at once. */
  readonly lifeSeconds: number;
  /** Milliseconds between two looks for an API that is not installed. */
  readonly absentMs: number;
}

/** Broken connections in a row after which the watch is given up. */
const attempts = 3;
/** A line longer than this is no event. */
const longestLine = 16 * 1024 * 1024;

/**
 * Changes to one resource after `from`, none left out. Goes on where it was when the server ends a watch in time, and
 * tries a few times when the connection breaks.
 * @throws GoneError when the server no longer knows the changes since; StoreUnavailableError
 */
export async function* watchResource(
  deps: WatchDeps,
  resource: ApiResource,
  from: string,
  signal: AbortSignal,
): AsyncGenerator<readonly ApiEvent[], void> {
  if (from === notInstalled) return awaitInstallation(deps, resource, signal);
  const position = { at: from, progress: false };
  const backoff = new Backoff(100, 1000);
  for (let broken = 0; !signal.aborted; ) {
    try {
      position.progress = false;
      yield* once(deps, resource, position, signal);
      broken = 0;
      if (!position.progress) await pause(deps.clock, backoff.next(), signal);
      else backoff.reset();
    } catch (thrown) {
      if (signal.aborted) return;
      broken = position.progress ? 1 : broken + 1;
      if (!(thrown instanceof StoreUnavailableError) || broken > attempts) throw thrown;
      const retryMs = backoff.next();
      deps.log.debug({ resource: resourceId(resource), reason: explain(thrown), retryMs }, 'watch broke; going on');
      await pause(deps.clock, retryMs, signal);
    }
  }
}

/** One watch request; `position` follows what it tells, bookmarks too. */
async function* once(
  { server, timeoutMs, lifeSeconds }: WatchDeps,
  resource: ApiResource,
  position: { at: string; progress: boolean },
  signal: AbortSignal,
): AsyncGenerator<readonly ApiEvent[], void> {
  const query = {
    watch: true,
    resourceVersion: position.at,
    allowWatchBookmarks: true,
    timeoutSeconds: Math.round(lifeSeconds * (1 + Math.random())),
  };
  let rest = '';
  for await (const text of server.stream(collectionPath(resource), query, timeoutMs, signal)) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > longestLine) throw new StoreUnavailableError(`watch ${resourceId(resource)}: an endless line`);
    const events: ApiEvent[] = [];
    for (const line of lines) {
      if (line === '') continue;
      const { type, object } = parse(resource, line) as RawEvent;
      if (type === 'ERROR') throw refusal(resource, object as Status);
      const { resourceVersion } = (object as ApiObject).metadata;
      if (resourceVersion !== undefined) position.at = resourceVersion;
      position.progress = true;
      if (type !== 'BOOKMARK') events.push({ type, object: object as ApiObject });
    }
    // Bookmarks too are a sign of life.
    if (lines.length > 0) yield events;
  }
}

type RawEvent =
  | { readonly type: ApiEvent['type'] | 'BOOKMARK'; readonly object: ApiObject }
  | { readonly type: 'ERROR'; readonly object: Status };

function refusal(resource: ApiResource, status: Status): Error {
  const answer = { status: status.code ?? 500, text: JSON.stringify({ ...status, kind: 'Status' }) };
  return failureOf(`watch ${resourceId(resource)}`, answer);
}

/** Looks from time to time whether an API is there now, whose objects must be listed then. */
async function awaitInstallation(
  { client, clock, absentMs }: WatchDeps,
  resource: ApiResource,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await pause(clock, absentMs * (0.5 + Math.random()), signal);
    if (signal.aborted) return;
    const { resourceVersion } = await client.list(resource, { query: { limit: 1 } });
    if (resourceVersion !== notInstalled) throw new GoneError(`${resourceId(resource)} is installed now`);
  }
}
