import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Failure } from '../base/reconcile.ts';
import type { NextHop } from '../kernel/types.ts';
import type { EndpointState } from './apply.ts';
import type { RouteClass } from './calc/routes.ts';
import type { DatastoreStatus } from './datastore-link.ts';
import type { TunnelStatus as DeviceStatus } from './managers/tunnel.ts';

/* What `GET /v1/status` answers; times are RFC 3339. */

export interface FelixStatus {
  readonly node: string;
  readonly pid: number;
  /** Routes come from a BGP speaker on this node. */
  readonly bgp: boolean;
  /** Everything the datastore held has been seen. */
  readonly inSync: boolean;
  readonly datastore: DatastoreStatus;
  readonly feed: FeedStatus;
  /** MTU that the devices of pods get which start now, in octets. */
  readonly podMtu?: number;
  readonly endpoints: readonly EndpointStatus[];
  readonly routes: Pick<RoutesStatus, 'counts'>;
  /** The tunnels that there should be. */
  readonly tunnels: readonly TunnelStatus[];
  /** What the kernel or a tool refused; retried with backoff. */
  readonly failures: readonly FailureStatus[];
  /** Stored objects that could not be understood; their last good form is in force. */
  readonly invalid: readonly { readonly key: string; readonly message: string }[];
  readonly lastApply?: LastApply;
}

export interface FeedStatus {
  readonly connected: boolean;
  /** The present connection delivered its whole table. */
  readonly complete: boolean;
  readonly routes: number;
  /** Routes that the present connection has not repeated. */
  readonly stale: number;
  readonly reason?: string;
}

export interface TunnelStatus extends DeviceStatus {
  /** Pools that do not reach other nodes because of the state. */
  readonly pools?: readonly string[];
}

export interface EndpointStatus {
  readonly key: string;
  readonly name: string;
  readonly interface: string;
  readonly addresses: readonly string[];
  readonly state: EndpointState;
  /** Its device's, where a pod that starts now would get another: it began before a tunnel or the uplink changed. */
  readonly mtu?: number;
  readonly problem?: string;
}

/** What `GET /v1/routes` answers. */
export interface RoutesStatus {
  readonly counts: Readonly<Record<RouteClass, number>>;
  readonly list: readonly RouteStatus[];
}

export interface RouteStatus {
  readonly destination: string;
  readonly class: RouteClass;
  readonly type: string;
  readonly nextHops: readonly NextHop[];
  readonly programmed: boolean;
  readonly problem?: string;
}

export interface FailureStatus {
  readonly kind: string;
  readonly item: string;
  readonly message: string;
  readonly since: string;
}

export interface LastApply {
  readonly at: string;
  readonly milliseconds: number;
  readonly routesChanged: number;
  readonly failures: number;
}

/** Failures with the time of their first appearance; each is logged when it appears, changes or goes away. */
export class FailureLedger {
  readonly #known = new Map<string, FailureStatus>();

  constructor(
    private readonly now: () => Date,
    private readonly log: Log,
  ) {}

  get list(): readonly FailureStatus[] {
    return [...this.#known.values()];
  }

  of(kind: string, item: string): FailureStatus | undefined {
    return this.#known.get(`${kind} ${item}`);
  }

  /** Takes the failures of a pass in place of those before. */
  update(failures: readonly Failure[]): void {
    const present = new Set<string>();
    for (const { kind, item, cause } of failures) {
      const key = `${kind} ${item}`;
      present.add(key);
      const message = explain(cause);
      const before = this.#known.get(key);
      if (before?.message === message) continue;
      this.#known.set(key, { kind, item, message, since: before?.since ?? this.now().toISOString() });
      this.log.warn({ kind, item, error: message }, 'could not be applied; will retry');
    }
    for (const [key, { kind, item }] of this.#known) {
      if (present.has(key)) continue;
      this.#known.delete(key);
      this.log.info({ kind, item }, 'applied after all, or no longer wanted');
    }
  }
}
