import type { PrefixId } from '../model/prefixes.ts';
import type { ChosenRoutes } from './chosen.ts';
import { decide } from './decision.ts';
import { Group, type Member, type ToldRoute } from './group.ts';
import type { AttributeId } from './intern.ts';
import type { CostOf } from './next-hops.ts';
import { OwedPaths } from './owed-paths.ts';
import type { PackedItems } from './packing.ts';
import { type Partition, Partitions } from './partitions.ts';
import type { Candidate, PathId, Rib } from './rib.ts';
import type { Source, SourceId } from './sources.ts';
import { type ToldPath, ToldPaths } from './told-paths.ts';

/** How many paths of a prefix peers are told: all that could be used, or so many of the best. */
export type PathsToSend = 'all' | number;

/** Paths in one go for a member that is behind. */
const pumpSlice = 4096;

/** Peers that are told several paths of a prefix, each with its identifier. RFC 7911. */
export class PathGroup extends Group<OwedPaths> {
  /** Each may have many paths to be ranked. */
  readonly step = 128;
  readonly #out = new ToldPaths(this.rib);

  constructor(
    context: Group['context'],
    rib: Rib,
    report: Group['report'],
    private readonly most: PathsToSend,
    private readonly costOf: CostOf | undefined,
  ) {
    super(context, rib, report);
  }

  advertised(source: Source): number {
    return this.#out.count - this.#out.countOf(this.rib.sources.find(source));
  }

  *told(source: Source): Generator<ToldRoute> {
    for (let id: PrefixId = 0; id < this.#out.bound; id++)
      for (const path of this.#out.of(id))
        if (this.rib.sources.get(path.source) !== source)
          yield { id, attributes: this.rib.interner.get(path.attributes), pathId: path.path };
  }

  dissolve(): void {
    const out = this.#out;
    let next: PrefixId = 0;
    this.rib.background((over) => {
      do {
        for (const end = Math.min(next + this.step, out.bound); next < end; next++) out.set(next, []);
      } while (next < out.bound && !over());
      return next < out.bound;
    });
  }

  apply(ids: readonly PrefixId[], _: readonly PrefixId[], selected: ChosenRoutes): void {
    // Before anything changes: a source that loses its last route loses its identifier.
    const selves = this.selves();
    const partitions = new Partitions();
    for (const id of ids) {
      const before = this.#out.of(id);
      const after = selected.attributes(id) === 0 ? [] : this.#wanted(id);
      if (before.length === 0 && after.length === 0) continue;
      this.#out.set(id, after);
      compare(partitions, id, before, after);
    }
    this.exporter.forget();
    this.tell(partitions.all, selves);
  }

  protected none(): OwedPaths {
    return new OwedPaths(this.rib.prefixes, this.#out);
  }

  protected oweAll(_: Source, pending: OwedPaths, told: boolean): void {
    pending.addAll(told);
  }

  protected oweKnown(source: Source, before: OwedPaths | undefined, pending: OwedPaths): void {
    pending.addKnown(this.#out, before, this.rib.sources.find(source));
  }

  protected oweChanged(pending: OwedPaths, { ids, paths }: Partition, told: boolean): void {
    for (const [i, id] of ids.entries()) pending.add(id, paths[i] ?? 0, told);
  }

  protected announcementsOf({ ids, paths }: Partition): readonly Uint8Array[] {
    const lists = new Map<AttributeId, PathList>();
    for (const [i, id] of ids.entries()) {
      const path = paths[i] ?? 0;
      const told = this.#out.find(id, path);
      if (told) listIn(lists, told.attributes).add(id, path);
    }
    this.#announce(lists);
    return this.packer.take();
  }

  protected withdrawalsOf({ ids, paths }: Partition): readonly Uint8Array[] {
    this.packer.withdraw({ prefixes: ids, paths, length: ids.length });
    return this.packer.take();
  }

  protected catchUp(member: Member<OwedPaths>, pending: OwedPaths): void {
    const self = this.idOf(member);
    const withdraw = new PathList();
    const announce = new Map<AttributeId, PathList>();
    const taken = pending.take(pumpSlice, self);
    for (const { id, path, told } of taken) {
      const now = this.#out.find(id, path);
      if (now && now.source !== self) listIn(announce, now.attributes).add(id, path);
      else if (told) withdraw.add(id, path);
    }
    if (withdraw.length > 0) this.packer.withdraw(withdraw);
    this.#announce(announce);
    const chunks = this.packer.take();
    if (chunks.length > 0) member.receiver.send(chunks);
    for (const { id } of taken) this.rib.prefixes.release(id);
  }

  #announce(lists: ReadonlyMap<AttributeId, PathList>): void {
    for (const [attributes, list] of lists) {
      if (this.packer.announce(attributes, list)) continue;
      this.report(this.rib.interner.get(attributes), list.length);
      this.packer.withdraw(list);
    }
  }

  #wanted(id: PrefixId): ToldPath[] {
    const wanted: ToldPath[] = [];
    for (const path of pathsToTell(this.rib, id, this.most, this.costOf)) {
      const source = this.rib.source(path);
      const attributes = this.exporter.export(id, this.rib.attributes(path), source);
      if (attributes !== 0) wanted.push({ path, attributes, source });
    }
    return wanted;
  }
}

/** Which paths of a prefix begin, change, or end. */
function compare(partitions: Partitions, id: PrefixId, before: readonly ToldPath[], after: readonly ToldPath[]): void {
  const add = (path: PathId, from: SourceId, to: SourceId, same: boolean) => {
    const { ids, paths } = partitions.of(from, to, same);
    ids.push(id);
    paths.push(path);
  };
  for (const { path, attributes, source } of after) {
    const known = before.find((one) => one.path === path);
    if (known?.attributes === attributes && known.source === source) continue;
    add(path, known?.source ?? 0, source, known?.attributes === attributes);
  }
  for (const { path, source } of before) if (!after.some((one) => one.path === path)) add(path, source, 0, false);
}

function listIn(lists: Map<AttributeId, PathList>, attributes: AttributeId): PathList {
  let list = lists.get(attributes);
  if (!list) {
    list = new PathList();
    lists.set(attributes, list);
  }
  return list;
}

class PathList implements PackedItems {
  readonly prefixes: PrefixId[] = [];
  readonly paths: PathId[] = [];

  get length(): number {
    return this.prefixes.length;
  }

  add(id: PrefixId, path: PathId): void {
    this.prefixes.push(id);
    this.paths.push(path);
  }
}

/** The paths of a prefix that peers are told; of several at most, the best: each is the best of those that are left. */
function pathsToTell(rib: Rib, id: PrefixId, most: PathsToSend, costOf: CostOf | undefined): PathId[] {
  const left = new Map<Candidate, PathId>();
  for (let path = rib.first(id); path !== 0; path = rib.next(path)) {
    const candidate = rib.candidate(path);
    if (costOf?.(candidate) !== Number.POSITIVE_INFINITY) left.set(candidate, path);
  }
  if (most === 'all') return [...left.values()];
  const ranked: PathId[] = [];
  while (left.size > 0 && ranked.length < most) {
    const decision = decide([...left.keys()], costOf);
    const path = decision && left.get(decision.best);
    if (!decision || path === undefined) break;
    ranked.push(path);
    left.delete(decision.best);
  }
  return ranked;
}
