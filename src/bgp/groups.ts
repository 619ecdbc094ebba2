import { ChosenRoutes } from './chosen.ts';
import { type ExportContext, exported } from './exporting.ts';
import type { Verdict } from './filters.ts';
import type { AttributeId } from './intern.ts';
import { UpdatePacker } from './packing.ts';
import { Pending } from './pending.ts';
import type { PrefixId } from './prefixes.ts';
import { reflectedOctets } from './reflecting.ts';
import type { Rib } from './rib.ts';
import type { Source, SourceId } from './sources.ts';
import type { Attributes } from './wire/attributes.ts';
import { maxExtendedLength, maxMessageLength } from './wire/framing.ts';
import { writeMessage } from './wire/message.ts';
import { octetsFor } from './wire/nlri.ts';
import { writeEndOfRib } from './wire/update.ts';

/** An established session as an update group sees it. */
export interface Receiver {
  readonly source: Source;
  /** Queues chunks of whole messages end to end. */
  send(chunks: readonly Uint8Array[]): void;
  /** False while so much is queued that more should wait for `pump`. */
  writable(): boolean;
}

interface Member {
  readonly receiver: Receiver;
  /** Prefixes that the member must still be told of; undefined once it is up to date. */
  pending: Pending | undefined;
  owesEndOfRib: boolean;
  /** Repeated routes have begun. RFC 7313. */
  owesEndOfRefresh: boolean;
}

/** Prefixes that changed from one source's route to another's, encoded at most once each way. */
interface Partition {
  /** 0: none. */
  readonly before: SourceId;
  readonly after: SourceId;
  /** Only the source changed: those who were told the route before need not hear of it. */
  readonly same: boolean;
  readonly ids: PrefixId[];
  announcements?: readonly Uint8Array[];
  withdrawals?: readonly Uint8Array[];
}

/** Prefixes that a member which is behind is told of in one go. */
const pumpSlice = 4096;

/**
 * Peers that are told the same things in the same form: one Adj-RIB-Out, and one encoding for all of them.
 * RFC 4271 §3.2, §9.2.
 */
export class UpdateGroup {
  readonly #out: ChosenRoutes;
  readonly #members = new Map<Source, Member>();
  readonly #packer: UpdatePacker;
  /** What became of attributes within one batch, by verdict, then by attributes and source; 0: not for these peers. */
  readonly #exports = new Map<Verdict, Map<number, AttributeId>>();
  #judged = new Uint8Array(16);

  /**
   * @param report a route whose attributes leave no room in a message: it is withdrawn instead
   */
  constructor(
    readonly context: ExportContext,
    private readonly rib: Rib,
    private readonly report: (attributes: Attributes, prefixes: number) => void,
  ) {
    this.#out = new ChosenRoutes(rib);
    const { family, fourOctetAs, external, extendedMessages } = context;
    const most = extendedMessages ? maxExtendedLength : maxMessageLength;
    this.#packer = new UpdatePacker(family, { fourOctetAs, external }, most, rib.prefixes, rib.interner);
  }

  get empty(): boolean {
    return this.#members.size === 0;
  }

  /** Routes that a member is told. */
  advertised(source: Source): number {
    return this.#out.count - this.#out.countOf(this.rib.sources.find(source));
  }

  /** The routes that a member is told. */
  *told(source: Source): Generator<[PrefixId, Attributes]> {
    for (const id of this.#out.ids())
      if (this.rib.sources.get(this.#out.source(id)) !== source)
        yield [id, this.rib.interner.get(this.#out.attributes(id))];
  }

  /** The member gets everything, then the end-of-RIB mark. `pump` does the sending. */
  join(receiver: Receiver): void {
    const pending = new Pending(this.rib.prefixes);
    this.#members.set(receiver.source, { receiver, pending, owesEndOfRib: true, owesEndOfRefresh: false });
    this.#oweAll(receiver.source, pending, false);
  }

  leave(source: Source): void {
    this.#members.get(source)?.pending?.drain(() => undefined);
    this.#members.delete(source);
  }

  /** The member goes over to another group of the table: what it was told here is replaced or withdrawn there. */
  move(source: Source, to: UpdateGroup): void {
    const member = this.#members.get(source);
    if (!member) return;
    const pending = new Pending(this.rib.prefixes);
    member.pending?.drain((id, told) => pending.add(id, told));
    const self = this.rib.sources.find(source);
    for (const id of this.#out.ids()) if (this.#out.source(id) !== self) pending.add(id, true);
    to.#oweAll(source, pending, false);
    to.#members.set(source, { ...member, pending });
    this.leave(source);
  }

  /** Gives up what the group remembers; nobody is in it. */
  dissolve(): void {
    for (const id of this.#out.ids()) this.#out.set(id, 0, 0);
  }

  /** Everything once more, as a ROUTE-REFRESH asks. RFC 2918 §4. @param enhanced between marks. RFC 7313 §4 */
  refresh(source: Source, enhanced: boolean): void {
    const member = this.#members.get(source);
    if (!member) return;
    // The first advertisement ends with its own mark, and marks do not nest.
    if (enhanced && !member.owesEndOfRib && !member.owesEndOfRefresh) {
      member.owesEndOfRefresh = true;
      member.receiver.send([this.#refreshMark('begin')]);
    }
    member.pending ??= new Pending(this.rib.prefixes);
    this.#oweAll(source, member.pending, true);
  }

  /** Fills the Adj-RIB-Out of a new group, before anybody joins, or follows changes and tells the members. */
  apply(ids: readonly PrefixId[], selected: ChosenRoutes): void {
    // Before anything changes: a source that loses its last route loses its identifier.
    const members = [...this.#members.values()].map((member) => ({ member, self: this.#idOf(member) }));
    const partitions = new Map<number, Partition>();
    let last: Partition | undefined;
    for (const id of ids) {
      const [before, beforeSource] = [this.#out.attributes(id), this.#out.source(id)];
      const after = this.#export(id, selected.attributes(id), selected.source(id));
      const afterSource = after === 0 ? 0 : selected.source(id);
      if (!this.#out.set(id, after, afterSource)) continue;
      const same = before === after;
      if (last?.before !== beforeSource || last.after !== afterSource || last.same !== same)
        last = partitionOf(partitions, beforeSource, afterSource, same);
      last.ids.push(id);
    }
    this.#exports.clear();
    for (const { member, self } of members)
      for (const partition of partitions.values()) this.#tell(member, self, partition);
  }

  /**
   * Sends members that are behind what they lack, as far as they take it.
   * @param complete the table itself is up to date, so that an end-of-RIB mark would be true
   * @returns whether somebody who can take more is still behind
   */
  pump(complete: boolean): boolean {
    let more = false;
    for (const member of this.#members.values()) {
      if (member.pending === undefined) continue;
      if (member.receiver.writable()) this.#catchUp(member, member.pending);
      if (member.pending.size > 0) more ||= member.receiver.writable();
      else if (complete) this.#caughtUp(member);
    }
    return more;
  }

  #idOf({ receiver }: Member): SourceId {
    return this.rib.sources.find(receiver.source);
  }

  /** Those with the same attributes one after the other, so that they share messages. */
  #oweAll(source: Source, pending: Pending, told: boolean): void {
    const self = this.rib.sources.find(source);
    for (const id of this.#out.byAttributes()) if (this.#out.source(id) !== self) pending.add(id, told);
  }

  #caughtUp(member: Member): void {
    member.pending = undefined;
    if (member.owesEndOfRib) member.receiver.send([writeEndOfRib(this.context.family)]);
    if (member.owesEndOfRefresh) member.receiver.send([this.#refreshMark('end')]);
    member.owesEndOfRib = false;
    member.owesEndOfRefresh = false;
  }

  #refreshMark(subtype: 'begin' | 'end'): Uint8Array {
    return writeMessage({ type: 'refresh', family: this.context.family, subtype });
  }

  #catchUp({ receiver }: Member, pending: Pending): void {
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

  #tell(member: Member, self: SourceId, partition: Partition): void {
    const told = partition.before !== 0 && partition.before !== self;
    const tell = partition.after !== 0 && partition.after !== self;
    if (member.pending !== undefined || !member.receiver.writable()) {
      member.pending ??= new Pending(this.rib.prefixes);
      if (told || tell) for (const id of partition.ids) member.pending.add(id, told);
      return;
    }
    if (tell && !(told && partition.same)) {
      partition.announcements ??= this.#announcements(partition.ids);
      member.receiver.send(partition.announcements);
    } else if (told && !tell) {
      partition.withdrawals ??= this.#withdrawals(partition.ids);
      member.receiver.send(partition.withdrawals);
    }
  }

  /** 0: the route is not for these peers. */
  #export(id: PrefixId, attributes: AttributeId, source: SourceId): AttributeId {
    if (attributes === 0) return 0;
    const verdict = this.#judge(id, attributes, source);
    if (verdict === 'reject') return 0;
    let known = this.#exports.get(verdict);
    if (!known) {
      known = new Map();
      this.#exports.set(verdict, known);
    }
    const key = attributes * 0x100000 + source;
    let result = known.get(key);
    if (result === undefined) {
      result = this.#form(attributes, source, verdict);
      known.set(key, result);
    }
    return result;
  }

  #form(id: AttributeId, sourceId: SourceId, verdict: Exclude<Verdict, 'reject'>): AttributeId {
    const { interner, sources } = this.rib;
    const source = sources.get(sourceId);
    const octets = verdict ? undefined : reflectedOctets(interner.octets(id), source, this.context);
    if (octets) return interner.internOctets(octets);
    const attributes = exported({ source, attributes: interner.get(id), stale: false }, this.context, verdict);
    return attributes ? interner.intern(attributes) : 0;
  }

  #judge(id: PrefixId, attributes: AttributeId, source: SourceId): Verdict {
    const { filter } = this.context;
    if (!filter) return undefined;
    const { prefixes, interner, sources } = this.rib;
    const length = prefixes.length(id);
    prefixes.copy(id, this.#judged, 0, octetsFor(length));
    return filter.judge(this.#judged, 0, length, interner.get(attributes), sources.get(source).kind !== 'local');
  }

  #announcements(ids: readonly PrefixId[]): Uint8Array[] {
    for (const [attributes, prefixes] of this.#byAttributes(ids)) {
      if (this.#packer.announce(attributes, { prefixes, length: prefixes.length })) continue;
      this.report(this.rib.interner.get(attributes), prefixes.length);
      this.#packer.withdraw({ prefixes, length: prefixes.length });
    }
    return this.#packer.take();
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
    this.#packer.withdraw({ prefixes, length: prefixes.length });
    return this.#packer.take();
  }
}

function partitionOf(partitions: Map<number, Partition>, before: SourceId, after: SourceId, same: boolean): Partition {
  const key = (before * 0x100000 + after) * 2 + (same ? 1 : 0);
  let partition = partitions.get(key);
  if (!partition) {
    partition = { before, after, same, ids: [] };
    partitions.set(key, partition);
  }
  return partition;
}
