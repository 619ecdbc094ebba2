import type { PrefixId } from '../model/prefixes.ts';
import type { ChosenRoutes } from './chosen.ts';
import { Exporter } from './exporter.ts';
import type { ExportContext } from './exporting.ts';
import type { Pace } from './pacing.ts';
import { UpdatePacker } from './packing.ts';
import type { Partition } from './partitions.ts';
import type { Rib } from './rib.ts';
import type { Source, SourceId } from './sources.ts';
import type { Attributes } from './wire/attributes.ts';
import { maxExtendedLength, maxMessageLength } from './wire/framing.ts';
import { writeMessage } from './wire/message.ts';
import { writeEndOfRib } from './wire/write-update.ts';

/** An established session as an update group sees it. */
export interface Receiver {
  readonly source: Source;
  /** Queues chunks of whole messages end to end. */
  send(chunks: readonly Uint8Array[]): void;
  /** False while so much is queued that more should wait for `pump`, or the pace wants a rest. */
  writable(): boolean;
  readonly pace?: Pace;
}

/** What a member must still be told of. */
export interface Owed {
  readonly size: number;
  /** Lets go of all of it. */
  clear(): void;
}

export interface Member<Pending extends Owed> {
  readonly receiver: Receiver;
  /** Undefined once the member is up to date. */
  pending: Pending | undefined;
  owesEndOfRib: boolean;
  /** Repeated routes have begun. RFC 7313. */
  owesEndOfRefresh: boolean;
}

/** A route as a member is told it. */
export interface ToldRoute {
  readonly id: PrefixId;
  readonly attributes: Attributes;
  /** Where the members are told several paths of a prefix. RFC 7911. */
  readonly pathId?: number;
}

/** Peers that are told the same things in the same form. RFC 4271 §3.2, §9.2. */
export abstract class Group<Pending extends Owed = Owed> {
  protected readonly members = new Map<Source, Member<Pending>>();
  protected readonly packer: UpdatePacker;
  protected readonly exporter: Exporter;
  /** Where the next round over the members that are behind begins. */
  #served = 0;

  /**
   * @param report a route whose attributes leave no room in a message: it is withdrawn instead
   */
  constructor(
    readonly context: ExportContext,
    protected readonly rib: Rib,
    protected readonly report: (attributes: Attributes, prefixes: number) => void,
  ) {
    const { family, fourOctetAs, external, extendedMessages } = context;
    const most = extendedMessages ? maxExtendedLength : maxMessageLength;
    this.packer = new UpdatePacker(family, { fourOctetAs, external }, most, rib.prefixes, rib.interner);
    this.exporter = new Exporter(context, rib);
  }

  get empty(): boolean {
    return this.members.size === 0;
  }

  /** Prefixes that are followed between two looks at the clock. */
  abstract readonly step: number;
  /** Routes that a member is told. */
  abstract advertised(source: Source): number;
  /** The routes that a member is told. */
  abstract told(source: Source): Generator<ToldRoute>;
  /** Follows changes and tells the members. @param changed those of `ids` whose selected route is another one */
  abstract apply(ids: readonly PrefixId[], changed: readonly PrefixId[], selected: ChosenRoutes): void;
  /** Gives up what the group remembers; nobody is in it. */
  abstract dissolve(): void;

  protected abstract none(): Pending;
  /** @param told the member knows all of it already */
  protected abstract oweAll(source: Source, pending: Pending, told: boolean): void;
  /** All that the member may know of, or has not yet been told to forget: `pending` shall hold it. */
  protected abstract oweKnown(source: Source, before: Pending | undefined, pending: Pending): void;
  /** Sends some of what the member lacks. */
  protected abstract catchUp(member: Member<Pending>, pending: Pending): void;
  /** What changed is owed as well. @param told the member knows what was told before */
  protected abstract oweChanged(pending: Pending, partition: Partition, told: boolean): void;
  /** Messages that announce, or withdraw, all of a partition. */
  protected abstract announcementsOf(partition: Partition): readonly Uint8Array[];
  protected abstract withdrawalsOf(partition: Partition): readonly Uint8Array[];

  /** The member gets everything, then the end-of-RIB mark. `pump` does the sending. */
  join(receiver: Receiver): void {
    const pending = this.none();
    this.members.set(receiver.source, { receiver, pending, owesEndOfRib: true, owesEndOfRefresh: false });
    this.oweAll(receiver.source, pending, false);
  }

  leave(source: Source): void {
    this.members.get(source)?.pending?.clear();
    this.members.delete(source);
  }

  /** The member goes over to another group of the same kind: what it was told here is replaced or withdrawn there. */
  move(source: Source, to: this): void {
    const member = this.members.get(source);
    if (!member) return;
    const pending = to.none();
    this.oweKnown(source, member.pending, pending);
    to.oweAll(source, pending, false);
    to.members.set(source, { ...member, pending });
    this.leave(source);
  }

  /** Everything once more, as a ROUTE-REFRESH asks. RFC 2918 §4. @param enhanced between marks. RFC 7313 §4 */
  refresh(source: Source, enhanced: boolean): void {
    const member = this.members.get(source);
    if (!member) return;
    // The first advertisement ends with its own mark, and marks do not nest.
    if (enhanced && !member.owesEndOfRib && !member.owesEndOfRefresh) {
      member.owesEndOfRefresh = true;
      member.receiver.send([this.#refreshMark('begin')]);
    }
    member.pending ??= this.none();
    this.oweAll(source, member.pending, true);
  }

  /**
   * Sends members that are behind what they lack, as far as they take it.
   * @param complete the table itself is up to date, so that an end-of-RIB mark would be true
   * @param over the slice is: at least one is served, and those after it the next time
   * @returns whether somebody who can take more is still behind
   */
  pump(complete: boolean, over: () => boolean): boolean {
    const behind: Member<Pending>[] = [];
    for (const member of this.members.values()) if (member.pending !== undefined) behind.push(member);
    if (behind.length === 0) return false;
    const first = this.#served % behind.length;
    let more = false;
    for (const [i, member] of [...behind.slice(first), ...behind.slice(0, first)].entries()) {
      if (i > 0 && over()) return true;
      this.#served = first + i + 1;
      more = this.#serve(member, complete) || more;
    }
    return more;
  }

  #serve(member: Member<Pending>, complete: boolean): boolean {
    const { pending, receiver } = member;
    if (pending === undefined) return false;
    if (receiver.writable()) this.catchUp(member, pending);
    if (pending.size > 0) return receiver.writable();
    if (complete) this.#caughtUp(member);
    return false;
  }

  /** By members, in their order; 0: no route comes from one. */
  protected selves(): SourceId[] {
    const selves: SourceId[] = [];
    for (const member of this.members.values()) selves.push(this.idOf(member));
    return selves;
  }

  /**
   * Tells of what changed: those who can take it share one encoding, to the others it is owed.
   * @param selves as they were before it changed
   */
  protected tell(partitions: readonly Partition[], selves: readonly SourceId[]): void {
    let at = 0;
    for (const member of this.members.values()) {
      const self = selves[at++] ?? 0;
      for (const partition of partitions) this.#tellOne(member, self, partition);
    }
  }

  #tellOne(member: Member<Pending>, self: SourceId, partition: Partition): void {
    const told = partition.before !== 0 && partition.before !== self;
    const tell = partition.after !== 0 && partition.after !== self;
    if (member.pending !== undefined || member.receiver.pace?.wanted || !member.receiver.writable()) {
      member.pending ??= this.none();
      if (told || tell) this.oweChanged(member.pending, partition, told);
      return;
    }
    if (tell && !(told && partition.same)) {
      partition.announcements ??= this.announcementsOf(partition);
      member.receiver.send(partition.announcements);
    } else if (told && !tell) {
      partition.withdrawals ??= this.withdrawalsOf(partition);
      member.receiver.send(partition.withdrawals);
    }
  }

  /** 0: no route comes from the member. */
  protected idOf({ receiver }: Member<Pending>): SourceId {
    return this.rib.sources.find(receiver.source);
  }

  #caughtUp(member: Member<Pending>): void {
    member.pending = undefined;
    if (member.owesEndOfRib) member.receiver.send([writeEndOfRib(this.context.family)]);
    if (member.owesEndOfRefresh) member.receiver.send([this.#refreshMark('end')]);
    member.owesEndOfRib = false;
    member.owesEndOfRefresh = false;
    member.receiver.pace?.rest();
  }

  #refreshMark(subtype: 'begin' | 'end'): Uint8Array {
    return writeMessage({ type: 'refresh', family: this.context.family, subtype });
  }
}
