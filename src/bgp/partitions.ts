import type { PrefixId } from '../model/prefixes.ts';
import type { PathId } from './rib.ts';
import type { SourceId } from './sources.ts';

/** What changed from one source's route to another's, encoded at most once each way. */
export interface Partition {
  /** 0: none. */
  readonly before: SourceId;
  readonly after: SourceId;
  /** Only the source changed: those who were told the route before need not hear of it. */
  readonly same: boolean;
  readonly ids: PrefixId[];
  /** Which path of each prefix, where the members are told several; else empty. RFC 7911. */
  readonly paths: PathId[];
  announcements: readonly Uint8Array[] | undefined;
  withdrawals: readonly Uint8Array[] | undefined;
}

/** The partitions of one batch; mostly it is a single one. */
export class Partitions {
  readonly all: Partition[] = [];
  /** Of several, by what they have in common. */
  #keyed: Map<number, Partition> | undefined;
  #last: Partition | undefined;

  /** Where a change belongs. */
  of(before: SourceId, after: SourceId, same: boolean): Partition {
    let last = this.#last;
    if (last === undefined || last.before !== before || last.after !== after || last.same !== same) {
      last = this.#partition(before, after, same);
      this.#last = last;
    }
    return last;
  }

  #partition(before: SourceId, after: SourceId, same: boolean): Partition {
    const [first] = this.all;
    // Only a second one needs a map.
    if (first) this.#keyed ??= new Map([[keyOf(first), first]]);
    const announcements = undefined;
    const wanted: Partition = { before, after, same, ids: [], paths: [], announcements, withdrawals: undefined };
    const known = this.#keyed?.get(keyOf(wanted));
    if (known) return known;
    this.#keyed?.set(keyOf(wanted), wanted);
    this.all.push(wanted);
    return wanted;
  }
}

function keyOf({ before, after, same }: Partition): number {
  return (before * 0x100000 + after) * 2 + (same ? 1 : 0);
}
