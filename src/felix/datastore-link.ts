import type { Clock } from '../base/clock.ts';

/** Whether what is known of the datastore is what it holds. */
export interface DatastoreStatus {
  readonly connected: boolean;
  /** Why not. */
  readonly reason?: string;
  /** Since when not, RFC 3339; what is known stays in force and is as old as this. */
  readonly since?: string;
}

/** Keeps since when the datastore has been away. */
export class DatastoreLink {
  #status: DatastoreStatus = { connected: false, reason: 'not asked yet' };
  #lostAt: number | undefined;

  constructor(private readonly clock: Clock) {}

  get status(): DatastoreStatus {
    return this.#status;
  }

  /** Seconds since it was lost; 0 while it is there, and before it was. */
  get staleSeconds(): number {
    return this.#lostAt === undefined ? 0 : (this.clock.monotonic() - this.#lostAt) / 1000;
  }

  up(): void {
    this.#lostAt = undefined;
    this.#status = { connected: true };
  }

  down(reason?: string): void {
    this.#lostAt ??= this.clock.monotonic();
    const since = this.#status.since ?? this.clock.wall().toISOString();
    this.#status = { connected: false, since, ...(reason !== undefined && { reason }) };
  }
}
