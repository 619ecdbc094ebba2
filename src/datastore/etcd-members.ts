import { Etcd3, GRPCOutOfRangeError, type IOptions } from 'etcd3';
import { type Clock, pause } from '../base/clock.ts';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { EtcdConfig } from './config.ts';
import { type Certificates, readCertificates, sameCertificates, tlsFailure } from './etcd-certificates.ts';
import { connectionFailure } from './etcd-reason.ts';
import { GoneError, StoreUnavailableError } from './store.ts';

export interface Member {
  readonly endpoint: string;
  readonly client: Etcd3;
  /** Aborts when a new client takes this one's place: calls under way finish, a watch goes on with the new one. */
  readonly retired: AbortSignal;
}

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/**
 * The library's own retries would repeat a transaction that may have gone through, and its circuit breaker would keep
 * refusing for seconds after etcd is back; both are left out, and what is retried is decided here.
 */
const direct = { execute: async (call: (context: object) => unknown) => call({}) } as unknown as Policy;

/** Large enough for 500 full blocks and for any single watch response of a busy cluster. */
const largestMessage = 256 * 2 ** 20;

export interface MembersOptions {
  readonly clock: Clock;
  /** Milliseconds one call may take. */
  readonly timeoutMs: number;
  /** Milliseconds between two looks whether the certificate files were replaced. */
  readonly recheckMs: number;
}

/** One client a member; calls stay with one member until it fails. */
export class Members {
  #members: readonly Member[];
  #at = 0;
  #certificates: Certificates | undefined;
  #checkedAt: number;
  #refused: string | undefined;
  #retire = new AbortController();
  readonly #closed = new AbortController();

  /** @throws EnvironmentError when a certificate file cannot be used */
  constructor(
    private readonly config: EtcdConfig,
    private readonly options: MembersOptions,
    private readonly log: Log,
  ) {
    this.#certificates = config.tls && readCertificates(config.tls);
    this.#checkedAt = options.clock.monotonic();
    this.#members = this.#connect();
  }

  get count(): number {
    return this.#members.length;
  }

  /** Whom to call. Looks at the certificate files first, when that is due. */
  current(): Member {
    const { clock, recheckMs } = this.options;
    if (clock.monotonic() - this.#checkedAt >= recheckMs) this.#recheck();
    const member = this.#members[this.#at];
    if (member === undefined) throw new TypeError('no etcd member');
    return member;
  }

  /** The next call goes to the next member, unless another call has already moved on from this one. */
  leave(member: Member, cause: unknown): void {
    this.renew(member, cause);
    if (this.#members.length < 2 || this.#members[this.#at] !== member) return;
    this.#at = (this.#at + 1) % this.#members.length;
    const next = this.#members[this.#at]?.endpoint;
    this.log.warn({ endpoint: member.endpoint, next, reason: explain(cause) }, 'etcd member failed');
  }

  /**
   * Makes new clients when that is what a failed call needs: with certificates that were replaced, or a new token.
   * @returns whether this member's client is retired now
   */
  renew(member: Member, cause: unknown): boolean {
    this.#recheck();
    if (!member.retired.aborted && isTokenOutdated(cause)) {
      this.#replace();
      this.log.info({ endpoint: member.endpoint }, 'roles of etcd changed; authenticating again');
    }
    return member.retired.aborted;
  }

  /**
   * A call that may be repeated: tried with every member once, and once more when its client was replaced meanwhile.
   * @throws GoneError, StoreUnavailableError
   */
  async read<T>(call: (client: Etcd3) => Promise<T>): Promise<T> {
    for (let left = this.count; ; left--) {
      const member = this.current();
      try {
        return await call(member.client);
      } catch (thrown) {
        const failure = this.failureOf(thrown, member);
        if (failure instanceof GoneError) throw failure;
        this.leave(member, thrown);
        if (!mayRepeat(left, member)) throw failure;
      }
    }
  }

  /** What a failed call means to the store's user. Anything but a compacted revision is worth trying again. */
  failureOf(thrown: unknown, { endpoint }: Member): Error {
    if (thrown instanceof GoneError || thrown instanceof StoreUnavailableError) return thrown;
    if (thrown instanceof GRPCOutOfRangeError)
      return new GoneError('the revision is compacted or ahead of the store', { cause: thrown });
    const { tls } = this.config;
    const reason = tls && this.#certificates && tlsFailure(tls, this.#certificates, thrown, this.options.clock.wall());
    const lost = reason === undefined ? connectionFailure(thrown) : undefined;
    if (lost !== undefined)
      return new StoreUnavailableError(
        `etcd at ${endpoint}: ${lost}; see that it runs, and that ETCD_ENDPOINTS is right`,
      );
    return new StoreUnavailableError(`etcd at ${endpoint}${reason ? `: ${reason}` : ''}`, { cause: thrown });
  }

  close(): void {
    this.#closed.abort();
    for (const { client } of this.#members) client.close();
  }

  /** Takes up certificate files that were replaced; what cannot be used is logged once, and the old ones stay. */
  #recheck(): void {
    this.#checkedAt = this.options.clock.monotonic();
    const { tls } = this.config;
    if (tls === undefined || this.#certificates === undefined) return;
    try {
      const read = readCertificates(tls);
      this.#refused = undefined;
      if (sameCertificates(this.#certificates, read)) return;
      this.#certificates = read;
    } catch (thrown) {
      if (!(thrown instanceof EnvironmentError)) throw thrown;
      if (this.#refused !== thrown.message)
        this.log.warn({ reason: explain(thrown) }, 'replaced etcd certificates cannot be used; the old ones stay');
      this.#refused = thrown.message;
      return;
    }
    this.#replace();
    this.log.info('etcd certificates were replaced; reconnecting');
  }

  /** New clients for all members; the old ones close when the calls under way have had their time. */
  #replace(): void {
    if (this.#closed.signal.aborted) return;
    const old = this.#members;
    const retire = this.#retire;
    this.#retire = new AbortController();
    this.#members = this.#connect();
    retire.abort();
    void pause(this.options.clock, 2 * this.options.timeoutMs, this.#closed.signal).then(() => {
      for (const { client } of old) client.close();
    });
  }

  #connect(): readonly Member[] {
    const { endpoints, credentials } = this.config;
    const callOptions = deadline(this.options.timeoutMs);
    return endpoints.map((endpoint) => ({
      endpoint,
      retired: this.#retire.signal,
      client: new Etcd3({
        hosts: endpoint,
        ...(credentials && { auth: { ...credentials, callOptions } }),
        ...(this.#certificates && { credentials: { ...this.#certificates } }),
        defaultCallOptions: callOptions,
        faultHandling: { global: direct, host: () => direct },
        grpcOptions: {
          'grpc.max_receive_message_length': largestMessage,
          // Which of its own retries there would be is decided here, and nobody asks for its statistics of each call.
          'grpc.enable_retries': 0,
          'grpc.enable_channelz': 0,
        },
      }),
    }));
  }
}

/** Whether a call that failed, with `left` tries planned before it, may be tried again. */
export function mayRepeat(left: number, member: Member): boolean {
  return left > 1 || (left === 1 && member.retired.aborted);
}

/** etcd checks a signed token against the roles it was given under; the library renews only expired tokens. */
export function isTokenOutdated(cause: unknown): boolean {
  return explain(cause).includes('revision of auth store is old');
}

function deadline(timeoutMs: number): IOptions['defaultCallOptions'] & object {
  return ({ isStream }) => (isStream ? {} : { deadline: Date.now() + timeoutMs });
}
