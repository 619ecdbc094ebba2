import {
  CompareResult,
  CompareTarget,
  type ICompare,
  type IRangeResponse,
  type IRequestOp,
  type ITxnResponse,
} from 'etcd3';
import { type Clock, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { EtcdConfig } from './config.ts';
import { prefixEnd } from './etcd-keys.ts';
import { isTokenOutdated, type Member, Members, mayRepeat } from './etcd-members.ts';
import { watchMember } from './etcd-watch.ts';
import type { Commit, Expectation, Kv, KvEntry, KvEvent, KvWrite } from './kv.ts';
import { KvStore } from './kv-store.ts';
import { PrefixedKv } from './prefixed-kv.ts';
import { type Store, StoreUnavailableError } from './store.ts';

export interface EtcdOptions {
  readonly clock?: Clock;
  /** Milliseconds one call may take; default 4000. */
  readonly timeoutMs?: number;
  /** Milliseconds between two checks that a watched member is alive; default 10000. */
  readonly probeMs?: number;
  /** Milliseconds between two looks whether the certificate files were replaced; default 10000. */
  readonly recheckMs?: number;
  /** Keys read at once; default 500. */
  readonly chunk?: number;
}

/**
 * A store on etcd v3 in Calico's layout. Connects on first use, and anew when the certificate files are replaced.
 * @throws EnvironmentError when a certificate file cannot be used
 */
export function createEtcdStore(config: EtcdConfig, log: Log, options: EtcdOptions = {}): Store {
  const clock = options.clock ?? systemClock;
  return new KvStore(createEtcdKv(config, log, options), () => clock.wall());
}

/** The keys and values beneath the store, for what is no resource. @throws EnvironmentError as createEtcdStore */
export function createEtcdKv(config: EtcdConfig, log: Log, options: EtcdOptions = {}): Kv {
  const clock = options.clock ?? systemClock;
  const { timeoutMs = 4000, recheckMs = 10_000 } = options;
  const { namespace = '' } = config;
  const kv = new EtcdKv(new Members(config, { clock, timeoutMs, recheckMs }, log), clock, options, namespace);
  return namespace === '' ? kv : new PrefixedKv(kv, namespace);
}

class EtcdKv implements Kv {
  constructor(
    private readonly members: Members,
    private readonly clock: Clock,
    private readonly options: EtcdOptions,
    /** Below it a user may read. */
    private readonly namespace: string,
  ) {}

  async get(key: string): Promise<KvEntry | undefined> {
    const { kvs } = await this.members.read((client) => client.kv.range({ key: Buffer.from(key) }));
    return kvs[0] && entryOf(kvs[0]);
  }

  /** In chunks, all at the revision of the first. */
  async range(prefix: string, revision?: string) {
    const entries: KvEntry[] = [];
    let at = revision;
    let from: Buffer | undefined = Buffer.from(prefix);
    while (from !== undefined) {
      const chunk: IRangeResponse = await this.#chunk(from, prefixEnd(prefix), at);
      at ??= chunk.header.revision;
      for (const kv of chunk.kvs) entries.push(entryOf(kv));
      const last = chunk.kvs.at(-1);
      from = chunk.more && last ? Buffer.concat([last.key, Buffer.from([0])]) : undefined;
    }
    return { entries, revision: at ?? '0' };
  }

  /** Each write with a TTL has a lease of its own, as Calico's; the one before runs out by itself. */
  put(key: string, value: string, ttlSeconds?: number): Promise<void> {
    return this.members.read(async ({ kv, leaseClient }) => {
      const granted = ttlSeconds === undefined ? undefined : await leaseClient.leaseGrant({ TTL: ttlSeconds });
      const lease = granted && { lease: granted.ID };
      await kv.put({ key: Buffer.from(key), value: Buffer.from(value), ...lease });
    });
  }

  /**
   * One etcd transaction. When a member fails under it, whether it went through is unknown; the next member is asked
   * with the same conditions, and if they no longer hold, what is stored tells whether it was our own write.
   */
  async commit(writes: readonly KvWrite[]): Promise<Commit> {
    const request = {
      compare: writes.map(({ key, expect }) => compare(key, expect)),
      success: writes.map(applied),
      failure: writes.map(({ key }): IRequestOp => ({ request_range: { key: Buffer.from(key) } })),
    };
    let unsure: unknown;
    for (let left = this.members.count; ; left--) {
      const member = this.members.current();
      try {
        const answer = await member.client.kv.txn(request);
        if (answer.succeeded) return { committed: true, revision: answer.header.revision };
        return unsure === undefined ? refused(answer) : settled(writes, answer, unsure);
      } catch (thrown) {
        this.members.leave(member, thrown);
        if (!mayRepeat(left, member)) throw this.members.failureOf(thrown, member);
        if (!isTokenOutdated(thrown)) unsure = thrown;
      }
    }
  }

  /** Follows one member; when a new client takes the place of its own, goes on there after the last event told. */
  async *watch(prefix: string, revision: string, signal: AbortSignal): AsyncIterable<readonly KvEvent[]> {
    for (let at = revision; !signal.aborted; ) {
      const member = this.members.current();
      const ending = AbortSignal.any([signal, member.retired]);
      for await (const events of this.#follow(member, prefix, at, ending)) {
        yield events;
        const last = events.at(-1);
        if (last) at = last.op === 'put' ? last.entry.revision : last.revision;
      }
    }
  }

  async *#follow(member: Member, prefix: string, revision: string, signal: AbortSignal) {
    const key = Buffer.from(`${this.namespace}/calico/v1/Ready`);
    const probe = async () => {
      // Looks at the certificate files, which nothing else may do while all is quiet.
      this.members.current();
      try {
        await member.client.kv.range({ key, count_only: true });
      } catch (thrown) {
        if (!this.members.renew(member, thrown)) throw thrown;
      }
    };
    const { timeoutMs = 4000, probeMs = 10_000 } = this.options;
    try {
      yield* watchMember(member.client, this.clock, probe, { prefix, revision, signal, timeoutMs, probeMs });
    } catch (thrown) {
      throw this.#lost(member, thrown);
    }
  }

  close(): void {
    this.members.close();
  }

  #chunk(key: Buffer, range_end: Buffer, revision: string | undefined): Promise<IRangeResponse> {
    const request = { key, range_end, limit: this.options.chunk ?? 500, ...(revision !== undefined && { revision }) };
    return this.members.read((client) => client.kv.range(request));
  }

  #lost(member: Member, thrown: unknown): Error {
    const failure = this.members.failureOf(thrown, member);
    if (failure instanceof StoreUnavailableError) this.members.leave(member, thrown);
    return failure;
  }
}

function entryOf(kv: { readonly key: Buffer; readonly value: Buffer; readonly mod_revision: string }): KvEntry {
  return { key: kv.key.toString(), value: kv.value.toString(), revision: kv.mod_revision };
}

function compare(key: string, expect: Expectation): ICompare {
  const subject = { key: Buffer.from(key) };
  switch (expect.is) {
    case 'absent':
      return { ...subject, target: CompareTarget.Version, result: CompareResult.Equal, version: 0 };
    case 'present':
      return { ...subject, target: CompareTarget.Version, result: CompareResult.NotEqual, version: 0 };
    case 'at':
      return { ...subject, target: CompareTarget.Mod, result: CompareResult.Equal, mod_revision: expect.revision };
  }
}

function applied(write: KvWrite): IRequestOp {
  const key = Buffer.from(write.key);
  if (write.op === 'delete') return { request_delete_range: { key } };
  return { request_put: { key, value: Buffer.from(write.value) } };
}

function refused(answer: ITxnResponse): Commit {
  return { committed: false, found: found(answer).map((entry) => entry?.revision) };
}

/** The second answer of a transaction whose first is lost: what is stored is ours, or somebody came between. */
function settled(writes: readonly KvWrite[], answer: ITxnResponse, cause: unknown): Commit {
  const entries = found(answer);
  const ours = writes.every((write, at) =>
    write.op === 'delete' ? entries[at] === undefined : entries[at]?.value === write.value,
  );
  const revisions = new Set(entries.flatMap((entry) => (entry ? [entry.revision] : [])));
  if (ours && revisions.size <= 1)
    return { committed: true, revision: revisions.values().next().value ?? answer.header.revision };
  throw new StoreUnavailableError('a member failed during a transaction, and its outcome is unknown', { cause });
}

function found(answer: ITxnResponse): (KvEntry | undefined)[] {
  return answer.responses.map(({ response_range: { kvs } }) => kvs[0] && entryOf(kvs[0]));
}
