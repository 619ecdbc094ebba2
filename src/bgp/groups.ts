import type { PrefixId } from '../model/prefixes.ts';
import { ChosenRoutes } from './chosen.ts';
import { Group, type Member, type ToldRoute } from './group.ts';
import type { AttributeId } from './intern.ts';
import { type Partition, Partitions } from './partitions.ts';
import { Pending } from './pending.ts';
import type { Source } from './sources.ts';

/** Prefixes that a member which is behind is told of in one go. */
const pumpSlice = 4096;
/** Routes of a group without members let go between two looks at the clock. */
const releaseStep = 4096;

/** Peers that are told the best path of each prefix: one Adj-RIB-Out, and one encoding for all of them. */
export class UpdateGroup extends Group<Pending> {
  readonly step = 1024;
  readonly #out = new ChosenRoutes(this.rib);

  advertised(source: Source): number {
    return this.#out.count - this.#out.countOf(this.rib.sources.find(source));
  }

  *told(source: Source): Generator<ToldRoute> {
    for (const id of this.#out.ids())
      if (this.rib.sources.get(this.#out.source(id)) !== source)
        yield { id, attributes: this.rib.interner.get(this.#out.attributes(id)) };
  }

  dissolve(): void {
    const out = this.#out;
    let next: PrefixId = 0;
    this.rib.background((over) => {
      do {
        for (const end = Math.min(next + releaseStep, out.bound); next < end; next++)
          if (out.attributes(next) !== 0) out.set(next, 0, 0);
      } while (next < out.bound && !over());
      return next < out.bound;
    });
  }

  apply(_: readonly PrefixId[], changed: readonly PrefixId[], selected: ChosenRoutes): void {
    if (changed.length === 0) return;
    const out = this.#out;
    // Before anything changes: a source that loses its last route loses its identifier.
    const selves = this.selves();
    const partitions = new Partitions();
    for (const id of changed) {
      const before = out.attributes(id);
      const beforeSource = out.source(id);
      const source = selected.source(id);
      const after = this.exporter.export(id, selected.attributes(id), source);
      const afterSource = after === 0 ? 0 : source;
      if (out.set(id, after, afterSource)) partitions.of(beforeSource, afterSource, before === after).ids.push(id);
    }
    this.exporter.forget();
    this.tell(partitions.all, selves);
  }

  protected none(): Pending {
    return new Pending(this.rib.prefixes);
  }

  /** Those with the same attributes one after the other, so that they share messages. */
  protected oweAll(source: Source, pending: Pending, told: boolean): void {
    pending.addAll(this.#out.byAttributes(this.rib.sources.find(source)), told);
  }

  protected oweKnown(source: Source, before: Pending | undefined, pending: Pending): void {
    before?.drain((id, told) => pending.add(id, told));
    this.oweAll(source, pending, true);
  }

  protected catchUp({ receiver }: Member<Pending>, pending: Pending): void {
    const self = this.rib.sources.find(receiver.source);
    const announce: PrefixId[] = [];
    const withdraw: PrefixId[] = [];
    const taken: PrefixId[] = [];
    while (pending.size > 0 && taken.length < pumpSlice) {
      const id = pending.take();
      taken.push(id);
      const own = this.#out.attributes(id) === 0 || this.#out.source(id) === self;
      if (!own) announce.push(id);
      else if (pending.told) withdraw.push(id);
    }
    const chunks = [...this.#withdrawals(withdraw), ...this.#announcements(announce)];
    if (chunks.length > 0) receiver.send(chunks);
    for (const id of taken) this.rib.prefixes.release(id);
  }

  protected oweChanged(pending: Pending, { ids }: Partition, told: boolean): void {
    for (const id of ids) pending.add(id, told);
  }

  protected announcementsOf({ ids }: Partition): readonly Uint8Array[] {
    return this.#announcements(ids);
  }

  protected withdrawalsOf({ ids }: Partition): readonly Uint8Array[] {
    return this.#withdrawals(ids);
  }

  #announcements(ids: readonly PrefixId[]): Uint8Array[] {
    const [first] = ids;
    const only = first === undefined ? 0 : this.#out.attributes(first);
    if (ids.every((id) => this.#out.attributes(id) === only)) this.#announce(only, ids);
    else for (const [attributes, prefixes] of this.#byAttributes(ids)) this.#announce(attributes, prefixes);
    return this.packer.take();
  }

  #announce(attributes: AttributeId, prefixes: readonly PrefixId[]): void {
    const items = { prefixes, length: prefixes.length };
    if (items.length === 0 || this.packer.announce(attributes, items)) return;
    this.report(this.rib.interner.get(attributes), items.length);
    this.packer.withdraw(items);
  }

  #byAttributes(ids: readonly PrefixId[]): Map<AttributeId, PrefixId[]> {
    const lists = new Map<AttributeId, PrefixId[]>();
    let last = 0;
    let list: PrefixId[] = [];
    for (const id of ids) {
      const attributes = this.#out.attributes(id);
      if (attributes !== last) {
        last = attributes;
        list = lists.get(attributes) ?? [];
        lists.set(attributes, list);
      }
      list.push(id);
    }
    return lists;
  }

  #withdrawals(prefixes: readonly PrefixId[]): Uint8Array[] {
    if (prefixes.length === 0) return [];
    this.packer.withdraw({ prefixes, length: prefixes.length });
    return this.packer.take();
  }
}
