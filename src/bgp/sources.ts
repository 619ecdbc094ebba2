import { fitting } from '../base/id-index.ts';
import type { Ip } from '../model/address.ts';

/** Who told us a route: a peer, or this node itself. One object per peer; the session in force fills in the rest. */
export interface Source {
  /** Unique: the peer's name, or `local`. */
  readonly name: string;
  readonly kind: 'local' | 'ebgp' | 'ibgp';
  readonly address?: Ip;
  /** Device that the session uses: where its link-local next hops are. */
  readonly interface?: string;
  /** Its routes are reflected to every internal peer. RFC 4456 §6. */
  readonly client?: boolean;
  /** BGP identifier of the session in force. */
  identifier: Ip;
}

/** A source of one table as a small integer, never 0: valid while somebody retains it. */
export type SourceId = number;

/** The sources that anything in a table refers to. */
export class SourceTable {
  readonly #ids = new Map<Source, SourceId>();
  readonly #sources: (Source | undefined)[] = [undefined];
  #references = new Uint32Array(16);
  readonly #free: SourceId[] = [];

  /** 0: nothing refers to the source. */
  find(source: Source): SourceId {
    return this.#ids.get(source) ?? 0;
  }

  /** A new identifier is retained by nobody until `retain`. */
  intern(source: Source): SourceId {
    const known = this.#ids.get(source);
    if (known !== undefined) return known;
    const id = this.#free.pop() ?? this.#sources.length;
    this.#references = fitting(this.#references, id);
    this.#references[id] = 0;
    this.#sources[id] = source;
    this.#ids.set(source, id);
    return id;
  }

  get(id: SourceId): Source {
    const source = this.#sources[id];
    if (!source) throw new Error(`no source ${id}`);
    return source;
  }

  retain(id: SourceId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: SourceId): void {
    const left = (this.#references[id] ?? 0) - 1;
    if (left < 0) throw new Error(`source ${id} released more often than retained`);
    this.#references[id] = left;
    if (left > 0) return;
    this.#ids.delete(this.get(id));
    this.#sources[id] = undefined;
    this.#free.push(id);
  }
}
