import { type Event, type Key, keyText } from '../datastore/store.ts';
import type { Family } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { satisfies } from './view.ts';

/** What is said of an endpoint that is being written. */
export interface Announcement {
  /** It is stored. @param value as written, with its addresses. @param revision of the transaction */
  confirm(value: WorkloadEndpoint, revision: string): void;
  /** It is not stored, or must go again. */
  withdraw(): void;
}

/** The part of the calculation that announcements go into. */
export interface Announceable {
  readonly endpoints: ReadonlyMap<string, unknown>;
  announce(key: Key<'WorkloadEndpoint'>, value: WorkloadEndpoint, families: readonly Family[]): void;
  apply(event: Event): void;
}

interface Pending {
  readonly key: Key<'WorkloadEndpoint'>;
  /** Once it is confirmed. */
  revision?: string;
}

/**
 * Endpoints of this node which its own CNI server writes, known before the datastore tells of them: their chains are
 * made while the transaction is under way, and they are whole when it is answered. The datastore has the last word:
 * what it tells of an endpoint ends the announcement, and so does a list that should hold the endpoint and does not.
 */
export class Announced {
  readonly #pending = new Map<string, Pending>();
  /** Revision of the last list of everything. */
  #listed: string | undefined;

  constructor(
    private readonly graph: Announceable,
    /** @param atOnce somebody waits for nothing else */
    private readonly changed: (atOnce: boolean) => void,
  ) {}

  /**
   * @param value without addresses, which are not certain yet
   * @param families of which it will have addresses
   * @returns undefined when the endpoint is known already: then the datastore's word is waited for
   */
  announce(
    key: Key<'WorkloadEndpoint'>,
    value: WorkloadEndpoint,
    families: readonly Family[],
  ): Announcement | undefined {
    const text = keyText(key);
    if (this.graph.endpoints.has(text)) return undefined;
    const pending: Pending = { key };
    this.#pending.set(text, pending);
    this.graph.announce(key, value, families);
    this.changed(false);
    const mine = () => this.#pending.get(text) === pending;
    return {
      confirm: (stored, revision) => {
        if (!mine()) return;
        if (this.#listed !== undefined && satisfies(this.#listed, revision)) return this.#forget(text, pending);
        pending.revision = revision;
        this.graph.apply({ op: 'set', entry: { key, value: stored, revision } });
        this.changed(true);
      },
      withdraw: () => {
        if (mine()) this.#forget(text, pending);
      },
    };
  }

  /** The datastore tells of a change. @returns whether it was known already */
  told(event: Event): boolean {
    const text = keyText(event.op === 'delete' ? event.key : event.entry.key);
    const pending = this.#pending.get(text);
    if (!pending) return false;
    this.#pending.delete(text);
    return event.op === 'set' && event.entry.revision === pending.revision;
  }

  /** Everything that there was at `revision` has been told: what is confirmed by then and was not told is gone. */
  listed(revision: string): void {
    this.#listed = revision;
    for (const [text, pending] of this.#pending)
      if (pending.revision !== undefined && satisfies(revision, pending.revision)) this.#forget(text, pending);
  }

  #forget(text: string, { key }: Pending): void {
    this.#pending.delete(text);
    this.graph.apply({ op: 'delete', key });
    this.changed(false);
  }
}
