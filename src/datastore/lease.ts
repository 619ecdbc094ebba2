import { z } from 'zod';
import { parseLoosely } from './codec.ts';
import type { Expectation, Kv } from './kv.ts';

/** Who leads, with the meaning of coordination.k8s.io/v1 LeaseSpec. */
export interface LeaseRecord {
  /** Empty: nobody. */
  readonly holder: string;
  /** How long the holder leads after it was last seen to renew. */
  readonly durationSeconds: number;
  readonly acquiredAt: Date;
  readonly renewedAt: Date;
  /** How often the holder changed. */
  readonly transitions: number;
}

/** A record as it was read. */
export interface StoredLease {
  /** Undefined: what is stored cannot be understood. */
  readonly record: LeaseRecord | undefined;
  /** Changes with every write. */
  readonly revision: string;
}

/** One record that several processes write by compare-and-swap. */
export interface LeaseStore {
  /** @throws StoreUnavailableError */
  read(): Promise<StoredLease | undefined>;
  /**
   * @param revision what it must still be; undefined: there must be none
   * @throws StoreUnavailableError when it is unknown whether it was written
   */
  write(record: LeaseRecord, revision: string | undefined): Promise<'written' | 'conflict'>;
  close(): void;
}

const time = z.string().refine((text) => !Number.isNaN(Date.parse(text)));
const leaseSpec = z.looseObject({
  holderIdentity: z.string().nullish(),
  leaseDurationSeconds: z.number().int().min(1).nullish(),
  acquireTime: time.nullish(),
  renewTime: time.nullish(),
  leaseTransitions: z.number().int().min(0).nullish(),
});

const defaultDurationSeconds = 15;

/** LeaseSpec as JSON → record; undefined for what is none. */
export function parseLeaseSpec(value: unknown): LeaseRecord | undefined {
  const { success, data } = leaseSpec.safeParse(value);
  if (!success) return undefined;
  return {
    holder: data.holderIdentity ?? '',
    durationSeconds: data.leaseDurationSeconds ?? defaultDurationSeconds,
    acquiredAt: new Date(data.acquireTime ?? 0),
    renewedAt: new Date(data.renewTime ?? 0),
    transitions: data.leaseTransitions ?? 0,
  };
}

/** Record → LeaseSpec, times with microseconds (meta/v1 MicroTime). */
export function formatLeaseSpec(record: LeaseRecord): Readonly<Record<string, unknown>> {
  return {
    holderIdentity: record.holder,
    leaseDurationSeconds: record.durationSeconds,
    acquireTime: microTime(record.acquiredAt),
    renewTime: microTime(record.renewedAt),
    leaseTransitions: record.transitions,
  };
}

function microTime(at: Date): string {
  return at.toISOString().replace(/Z$/, '000Z');
}

/** A lease in one key of a key-value store. */
export class KvLease implements LeaseStore {
  readonly #key: string;

  /** @param name ends the key, below Calico's prefix, on which the user's rights are */
  constructor(
    private readonly kv: Kv,
    name: string,
  ) {
    this.#key = `/calico/margay/v1/leases/${name}`;
  }

  async read(): Promise<StoredLease | undefined> {
    const found = await this.kv.get(this.#key);
    return found && { record: parseLeaseSpec(parseLoosely(found.value)), revision: found.revision };
  }

  async write(record: LeaseRecord, revision: string | undefined): Promise<'written' | 'conflict'> {
    const expect: Expectation = revision === undefined ? { is: 'absent' } : { is: 'at', revision };
    const value = JSON.stringify(formatLeaseSpec(record));
    const { committed } = await this.kv.commit([{ op: 'put', key: this.#key, value, expect }]);
    return committed ? 'written' : 'conflict';
  }

  close(): void {
    this.kv.close();
  }
}
