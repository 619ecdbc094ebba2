import { readFileSync } from 'node:fs';
import { Etcd3, GRPCOutOfRangeError, type IOptions } from 'etcd3';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { EtcdConfig } from './config.ts';
import { GoneError, StoreUnavailableError } from './store.ts';

export interface Member {
  readonly endpoint: string;
  readonly client: Etcd3;
}

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/**
 * The library's own retries would repeat a transaction that may have gone through, and its circuit breaker would keep
 * refusing for seconds after etcd is back; both are left out, and what is retried is decided here.
 */
const direct = { execute: async (call: (context: object) => unknown) => call({}) } as unknown as Policy;

/** Large enough for 500 full blocks and for any single watch response of a busy cluster. */
const largestMessage = 256 * 2 ** 20;

/** One client a member; calls stay with one member until it fails. */
export class Members {
  readonly #members: readonly Member[];
  #at = 0;

  /**
   * @param timeoutMs how long one call may take
   * @throws EnvironmentError when a certificate file cannot be read
   */
  constructor(
    config: EtcdConfig,
    timeoutMs: number,
    private readonly log: Log,
  ) {
    const credentials = readCertificates(config);
    this.#members = config.endpoints.map((endpoint) => ({
      endpoint,
      client: new Etcd3({
        hosts: endpoint,
        ...(config.credentials && { auth: { ...config.credentials, callOptions: deadline(timeoutMs) } }),
        ...(credentials && { credentials }),
        defaultCallOptions: deadline(timeoutMs),
        faultHandling: { global: direct, host: () => direct },
        grpcOptions: { 'grpc.max_receive_message_length': largestMessage },
      }),
    }));
  }

  get count(): number {
    return this.#members.length;
  }

  current(): Member {
    const member = this.#members[this.#at];
    if (member === undefined) throw new TypeError('no etcd member');
    return member;
  }

  /** The next call goes to the next member, unless another call has already moved on from this one. */
  leave(member: Member, cause: unknown): void {
    if (this.#members.length < 2 || this.#members[this.#at] !== member) return;
    this.#at = (this.#at + 1) % this.#members.length;
    this.log.warn(
      { endpoint: member.endpoint, next: this.current().endpoint, reason: explain(cause) },
      'etcd member failed',
    );
  }

  /**
   * A call that may be repeated: tried with every member once.
   * @throws GoneError, StoreUnavailableError
   */
  async read<T>(call: (client: Etcd3) => Promise<T>): Promise<T> {
    for (let left = this.count; ; left--) {
      const member = this.current();
      try {
        return await call(member.client);
      } catch (thrown) {
        const failure = failureOf(thrown, member);
        if (failure instanceof GoneError) throw failure;
        this.leave(member, thrown);
        if (left <= 1) throw failure;
      }
    }
  }

  close(): void {
    for (const { client } of this.#members) client.close();
  }
}

/** What a failed call means to the store's user. Anything but a compacted revision is worth trying again. */
export function failureOf(thrown: unknown, { endpoint }: Member): Error {
  if (thrown instanceof GoneError || thrown instanceof StoreUnavailableError) return thrown;
  if (thrown instanceof GRPCOutOfRangeError)
    return new GoneError('the revision is compacted or ahead of the store', { cause: thrown });
  return new StoreUnavailableError(`etcd at ${endpoint}`, { cause: thrown });
}

function deadline(timeoutMs: number): IOptions['defaultCallOptions'] & object {
  return ({ isStream }) => (isStream ? {} : { deadline: Date.now() + timeoutMs });
}

function readCertificates({ tls }: EtcdConfig): IOptions['credentials'] {
  if (tls === undefined) return undefined;
  const rootCertificate = readPem('ETCD_CA_CERT_FILE', tls.caFile);
  if (tls.client === undefined) return { rootCertificate };
  const certChain = readPem('ETCD_CERT_FILE', tls.client.certificateFile);
  return { rootCertificate, certChain, privateKey: readPem('ETCD_KEY_FILE', tls.client.keyFile) };
}

function readPem(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new EnvironmentError(`${setting}: ${path} cannot be read`, 'mount the file or correct the path', { cause });
  }
}
