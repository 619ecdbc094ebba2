import { type Event, keyText, type Store } from '../../../src/datastore/store.ts';

/** Watches of a store, each as the lines that it has told so far: `set Pod…`, or why it ended. */
export class Followers {
  readonly #ends: AbortController[] = [];

  /** Lists a type, then watches it. */
  async follow(type: Parameters<Store['list']>[0], from: Store): Promise<string[]> {
    const end = new AbortController();
    this.#ends.push(end);
    const seen: string[] = [];
    const { revision } = await from.list(type);
    const done = (async () => {
      for await (const events of from.watch([type], revision, end.signal)) seen.push(...events.map(line));
    })();
    done.catch((thrown: unknown) => seen.push(String(thrown)));
    return seen;
  }

  stop(): void {
    for (const end of this.#ends.splice(0)) end.abort();
  }
}

function line(event: Event): string {
  return `${event.op} ${keyText(event.op === 'delete' ? event.key : event.entry.key)}`;
}
