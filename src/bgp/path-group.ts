import type { PrefixId, PrefixTable } from '../model/prefixes.ts';
import type { ChosenRoutes } from './chosen.ts';
import { decide } from './decision.ts';
import { Group, type Member, type Owed, type ToldRoute } from './group.ts';
import type { AttributeId } from './intern.ts';
import type { CostOf } from './next-hops.ts';
import type { PackedItems } from './packing.ts';
import type { Candidate, PathId, Rib } from './rib.ts';
import type { Source, SourceId } from './sources.ts';

/** How many paths of a prefix peers are told: all that could be used, or so many of the best. */
export type PathsToSend = 'all' | number;

/** A path as the members are told it; its number is its identifier on the wire, stable while it lasts. */
interface ToldPath {
  readonly path: PathId;
  readonly attributes: AttributeId;
  readonly source: SourceId;
}

interface OwedPath {
  readonly id: PrefixId;
  readonly path: PathId;
  /** The member knows the path, so that it must hear of its end. */
  readonly told: boolean;
}

/** Paths in one go for a member that is behind. */
const pumpSlice = 4096;

/** Paths that one member must still be told of; each retains its prefix. */
class OwedPaths implements Owed {
  readonly #owed = new Map<number, OwedPath>();

  constructor(private readonly prefixes: PrefixTable) {}

  get size(): number {
    return this.#owed.size;
  }

  add(id: PrefixId, path: PathId, told: boolean): void {
    const key = id * 0x4000000 + path;
    if (this.#owed.has(key)) return;
    this.#owed.set(key, { id, path, told });
    this.prefixes.retain(id);
  }

  /** Some of them; their prefixes are the caller's to release. */
  take(most: number): OwedPath[] {
    const taken: OwedPath[] = [];
    for (const [key, owed] of this.#owed) {
      if (taken.length >= most) break;
      taken.push(owed);
      this.#owed.delete(key);
    }
    return taken;
  }

  clear(): void {
    for (const { id } of this.take(Number.POSITIVE_INFINITY)) this.prefixes.release(id);
  }
}

/** Peers that are told several paths of a prefix, each with its identifier. RFC 7911. */
export class PathGroup extends Group<OwedPaths> {
  readonly #out = new Map<PrefixId, readonly ToldPath[]>();
  /** Paths told, by source. */
  readonly #counts = new Map<SourceId, number>();
  #count = 0;

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
    return this.#count - (this.#counts.get(this.rib.sources.find(source)) ?? 0);
  }

  *told(source: Source): Generator<ToldRoute> {
    for (const [id, paths] of this.#out)
      for (const path of paths)
        if (this.rib.sources.get(path.source) !== source)
          yield { id, attributes: this.rib.interner.get(path.attributes), pathId: path.path };
  }

  dissolve(): void {
    const ids = this.#out.keys();
    this.rib.background((over) => {
      for (const id of ids) {
        this.#record(id, []);
        if (over()) return true;
      }
      return false;
    });
  }

  apply(ids: readonly PrefixId[], _: readonly PrefixId[], selected: ChosenRoutes): void {
    // Before anything changes: a source that loses its last route loses its identifier.
    const members = [...this.members.values()].map((member) => ({ member, self: this.idOf(member) }));
    for (const id of ids) {
      const before = this.#out.get(id) ?? [];
      const after = selected.attributes(id) === 0 ? [] : this.#wanted(id);
      if (before.length === 0 && after.length === 0) continue;
      this.#record(id, after);
      for (const { member, self } of members) this.#owe(member, self, id, before, after);
    }
    this.exporter.forget();
  }

  protected none(): OwedPaths {
    return new OwedPaths(this.rib.prefixes);
  }

  protected oweAll(source: Source, pending: OwedPaths, told: boolean): void {
    const self = this.rib.sources.find(source);
    for (const [id, paths] of this.#out)
      for (const path of paths) if (path.source !== self) pending.add(id, path.path, told);
  }

  protected oweKnown(source: Source, before: OwedPaths | undefined, pending: OwedPaths): void {
    for (const { id, path, told } of before?.take(Number.POSITIVE_INFINITY) ?? []) {
      pending.add(id, path, told);
      this.rib.prefixes.release(id);
    }
    this.oweAll(source, pending, true);
  }

  protected catchUp(member: Member<OwedPaths>, pending: OwedPaths): void {
    const self = this.idOf(member);
    const withdraw = new PathList();
    const announce = new Map<AttributeId, PathList>();
    const taken = pending.take(pumpSlice);
    for (const { id, path, told } of taken) {
      const now = this.#out.get(id)?.find((one) => one.path === path);
      if (!now || now.source === self) {
        if (told) withdraw.add(id, path);
        continue;
      }
      const list = announce.get(now.attributes) ?? new PathList();
      announce.set(now.attributes, list);
      list.add(id, path);
    }
    if (withdraw.length > 0) this.packer.withdraw(withdraw);
    for (const [attributes, list] of announce) {
      if (this.packer.announce(attributes, list)) continue;
      this.report(this.rib.interner.get(attributes), list.length);
      this.packer.withdraw(list);
    }
    const chunks = this.packer.take();
    if (chunks.length > 0) member.receiver.send(chunks);
    for (const { id } of taken) this.rib.prefixes.release(id);
  }

  #owe(
    member: Member<OwedPaths>,
    self: SourceId,
    id: PrefixId,
    before: readonly ToldPath[],
    after: readonly ToldPath[],
  ): void {
    for (const { path, attributes, source } of after) {
      const known = before.find((one) => one.path === path);
      if (known?.attributes === attributes && known.source === source) continue;
      const told = known !== undefined && known.source !== self;
      if (told || source !== self) this.#add(member, id, path, told);
    }
    for (const { path, source } of before)
      if (source !== self && !after.some((one) => one.path === path)) this.#add(member, id, path, true);
  }

  #add(member: Member<OwedPaths>, id: PrefixId, path: PathId, told: boolean): void {
    member.pending ??= this.none();
    member.pending.add(id, path, told);
  }

  #wanted(id: PrefixId): ToldPath[] {
    const wanted: ToldPath[] = [];
    for (const path of rankedPaths(this.rib, id, this.most, this.costOf)) {
      const source = this.rib.source(path);
      const attributes = this.exporter.export(id, this.rib.attributes(path), source);
      if (attributes !== 0) wanted.push({ path, attributes, source });
    }
    return wanted;
  }

  /** Each path retains its attributes and its source, any path the prefix. */
  #record(id: PrefixId, after: readonly ToldPath[]): void {
    const { prefixes, interner, sources } = this.rib;
    const before = this.#out.get(id) ?? [];
    for (const { attributes, source } of after) {
      interner.retain(attributes);
      sources.retain(source);
      this.#tally(source, 1);
    }
    if (before.length === 0 && after.length > 0) prefixes.retain(id);
    if (after.length > 0) this.#out.set(id, after);
    else this.#out.delete(id);
    for (const { attributes, source } of before) {
      this.#tally(source, -1);
      interner.release(attributes);
      sources.release(source);
    }
    if (before.length > 0 && after.length === 0) prefixes.release(id);
  }

  #tally(source: SourceId, by: number): void {
    this.#count += by;
    const count = (this.#counts.get(source) ?? 0) + by;
    if (count === 0) this.#counts.delete(source);
    else this.#counts.set(source, count);
  }
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

/** The paths of a prefix that could be used, best first: each is the best of those that are left. */
export function rankedPaths(rib: Rib, id: PrefixId, most: PathsToSend, costOf: CostOf | undefined): PathId[] {
  const left = new Map<Candidate, PathId>();
  for (let path = rib.first(id); path !== 0; path = rib.next(path)) left.set(rib.candidate(path), path);
  const ranked: PathId[] = [];
  while (left.size > 0 && (most === 'all' || ranked.length < most)) {
    const decision = decide([...left.keys()], costOf);
    const path = decision && left.get(decision.best);
    if (!decision || path === undefined) break;
    ranked.push(path);
    left.delete(decision.best);
  }
  return ranked;
}
