import { type ExportContext, exported } from './exporting.ts';
import { prefixOctets, type Verdict } from './filters.ts';
import type { AttributeInterner } from './intern.ts';
import type { PrefixId, PrefixTable } from './prefixes.ts';
import type { Candidate, Source } from './rib.ts';
import type { Attributes } from './wire/attributes.ts';
import { maxExtendedLength } from './wire/framing.ts';
import { writeMessage } from './wire/message.ts';
import { writeAnnouncements, writeEndOfRib, writeWithdrawals } from './wire/update.ts';

/** An established session as an update group sees it. */
export interface Receiver {
  readonly source: Source;
  /** Queues whole messages. */
  send(messages: readonly Uint8Array[]): void;
  /** False while so much is queued that more should wait for `pump`. */
  writable(): boolean;
}

/** A prefix whose best path changed. */
export interface Change {
  readonly id: PrefixId;
  readonly best: Candidate | undefined;
}

/** A route as the group was told it, and by whom: nobody is told their own routes. */
interface Advertised {
  readonly attributes: Attributes;
  readonly source: Source;
}

interface Member {
  readonly receiver: Receiver;
  /** Prefixes that the member must still be told of, each retained; undefined once it is up to date. */
  pending: Set<PrefixId> | undefined;
  owesEndOfRib: boolean;
  /** Repeated routes have begun. RFC 7313. */
  owesEndOfRefresh: boolean;
}

/** Prefixes that changed from one source's route to another's, encoded at most once each way. */
interface Partition {
  readonly before: Source | undefined;
  readonly after: Source | undefined;
  /** Only the source changed: those who were told the route before need not hear of it. */
  readonly same: boolean;
  readonly announce: Map<Attributes, PrefixId[]>;
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
  readonly #out = new Map<PrefixId, Advertised>();
  readonly #members = new Map<Source, Member>();
  /** By candidate and the filter's verdict, shared by all its prefixes; `undefined`: not for these peers. */
  readonly #exports = new WeakMap<Candidate, Map<Verdict, Advertised | undefined>>();

  /**
   * @param report a route whose attributes leave no room in a message: it is withdrawn instead
   */
  constructor(
    readonly context: ExportContext,
    private readonly prefixes: PrefixTable,
    private readonly interner: AttributeInterner,
    private readonly report: (attributes: Attributes, prefixes: number) => void,
  ) {}

  get empty(): boolean {
    return this.#members.size === 0;
  }

  /** Routes that a member is told. */
  advertised(source: Source): number {
    let own = 0;
    for (const route of this.#out.values()) if (route.source === source) own++;
    return this.#out.size - own;
  }

  /** The routes that a member is told. */
  *told(source: Source): Generator<[PrefixId, Attributes]> {
    for (const [id, route] of this.#out) if (route.source !== source) yield [id, route.attributes];
  }

  /** The member gets everything, then the end-of-RIB mark. `pump` does the sending. */
  join(receiver: Receiver): void {
    this.#members.set(receiver.source, { receiver, pending: new Set(), owesEndOfRib: true, owesEndOfRefresh: false });
    this.refresh(receiver.source, false);
  }

  leave(source: Source): void {
    const member = this.#members.get(source);
    this.#members.delete(source);
    for (const id of member?.pending ?? []) this.prefixes.release(id);
  }

  /** The member goes over to another group of the table: what it was told here is replaced or withdrawn there. */
  move(source: Source, to: UpdateGroup): void {
    const member = this.#members.get(source);
    if (!member) return;
    const moved: Member = { ...member, pending: new Set() };
    to.#members.set(source, moved);
    for (const ids of [this.#out.keys(), member.pending ?? [], to.#out.keys()])
      for (const id of ids) to.#defer(moved, id);
    this.leave(source);
  }

  /** Gives up what the group remembers; nobody is in it. */
  dissolve(): void {
    for (const id of this.#out.keys()) this.prefixes.release(id);
    this.#out.clear();
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
    for (const id of this.#out.keys()) this.#defer(member, id);
    member.pending ??= new Set();
  }

  /** Fills the Adj-RIB-Out of a new group, before anybody joins, or follows changes and tells the members. */
  apply(changes: readonly Change[]): void {
    const partitions = new Map<Source | undefined, Partition[]>();
    for (const { id, best } of changes) {
      const before = this.#out.get(id);
      const after = best && this.#export(best, id);
      if (before === after) continue;
      const same = before !== undefined && before.attributes === after?.attributes;
      this.#record(id, before, after);
      if (same && before.source === after?.source) continue;
      const partition = partitionOf(partitions, before?.source, after?.source, same);
      partition.ids.push(id);
      if (after) append(partition.announce, after.attributes, id);
    }
    const flat = [...partitions.values()].flat();
    for (const member of this.#members.values()) for (const partition of flat) this.#tell(member, partition);
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

  #catchUp({ receiver }: Member, pending: Set<PrefixId>): void {
    const announce = new Map<Attributes, PrefixId[]>();
    const withdraw: PrefixId[] = [];
    const taken: PrefixId[] = [];
    for (const id of pending) {
      if (taken.length >= pumpSlice) break;
      taken.push(id);
      pending.delete(id);
      const route = this.#out.get(id);
      if (route === undefined || route.source === receiver.source) withdraw.push(id);
      else append(announce, route.attributes, id);
    }
    const messages = [...this.#withdrawals(withdraw), ...this.#announcements(announce)];
    if (messages.length > 0) receiver.send(messages);
    for (const id of taken) this.prefixes.release(id);
  }

  #tell(member: Member, partition: Partition): void {
    if (member.pending !== undefined || !member.receiver.writable()) {
      for (const id of partition.ids) this.#defer(member, id);
      return;
    }
    const self = member.receiver.source;
    const told = partition.before !== undefined && partition.before !== self;
    const tell = partition.after !== undefined && partition.after !== self;
    if (tell && !(told && partition.same)) {
      partition.announcements ??= this.#announcements(partition.announce);
      member.receiver.send(partition.announcements);
    } else if (told && !tell) {
      partition.withdrawals ??= this.#withdrawals(partition.ids);
      member.receiver.send(partition.withdrawals);
    }
  }

  #defer(member: Member, id: PrefixId): void {
    member.pending ??= new Set();
    if (member.pending.has(id)) return;
    member.pending.add(id);
    this.prefixes.retain(id);
  }

  #record(id: PrefixId, before: Advertised | undefined, after: Advertised | undefined): void {
    if (after) {
      this.#out.set(id, after);
      if (!before) this.prefixes.retain(id);
    } else if (before) {
      this.#out.delete(id);
      this.prefixes.release(id);
    }
  }

  #export(best: Candidate, id: PrefixId): Advertised | undefined {
    const verdict = this.#judge(best, id);
    if (verdict === 'reject') return undefined;
    const known = this.#exports.get(best) ?? new Map<Verdict, Advertised | undefined>();
    if (!known.has(verdict)) {
      const attributes = exported(best, this.context, verdict);
      known.set(verdict, attributes && { attributes: this.interner.intern(attributes), source: best.source });
      this.#exports.set(best, known);
    }
    return known.get(verdict);
  }

  #judge({ attributes, source }: Candidate, id: PrefixId): Verdict {
    const { filter } = this.context;
    if (!filter) return undefined;
    const { octets, length } = prefixOctets(this.prefixes.cidr(id));
    return filter.judge(octets, 0, length, attributes, source.kind !== 'local');
  }

  #announcements(announce: ReadonlyMap<Attributes, readonly PrefixId[]>): Uint8Array[] {
    const messages: Uint8Array[] = [];
    const { family, fourOctetAs, external, extendedMessages, extendedNextHop = false } = this.context;
    const codec = { fourOctetAs, external, extendedNextHop };
    for (const [attributes, ids] of announce) {
      let written = writeAnnouncements(family, attributes, codec, ids, this.prefixes);
      // Long messages are for what fits no short one: everybody on the way can read the others.
      if (!written && extendedMessages)
        written = writeAnnouncements(family, attributes, codec, ids, this.prefixes, maxExtendedLength);
      if (!written) this.report(attributes, ids.length);
      messages.push(...(written ?? this.#withdrawals(ids)));
    }
    return messages;
  }

  #withdrawals(ids: readonly PrefixId[]): Uint8Array[] {
    return writeWithdrawals(this.context.family, ids, this.prefixes);
  }
}

function partitionOf(
  partitions: Map<Source | undefined, Partition[]>,
  before: Source | undefined,
  after: Source | undefined,
  same: boolean,
): Partition {
  const row = partitions.get(before) ?? [];
  partitions.set(before, row);
  const known = row.find((partition) => partition.after === after && partition.same === same);
  if (known) return known;
  const partition: Partition = { before, after, same, announce: new Map(), ids: [] };
  row.push(partition);
  return partition;
}

function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}
