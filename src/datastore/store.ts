import type { Cidr, Ip } from '../model/address.ts';
import type { Block, BlockAffinity, Handle, IpamConfig } from '../model/ipam.ts';
import type { Kind, ResourceOf } from '../model/kinds.ts';

/*
 * One contract for every datastore. Values are checked on the way in: a stored value that does not parse is reported
 * as `invalid` with its key and error, and never as an absent object.
 */

/** What can be stored: v3 resources by their kind, and Calico's IPAM objects. */
export type Type = Kind | 'Block' | 'BlockAffinity' | 'Handle' | 'IpamConfig';

export type Key<T extends Type = Type> = T extends Kind
  ? { readonly type: T; readonly namespace?: string; readonly name: string }
  : T extends 'Block'
    ? { readonly type: 'Block'; readonly cidr: Cidr }
    : T extends 'BlockAffinity'
      ? {
          readonly type: 'BlockAffinity';
          /** A node's name, or `virtual:<name>`. */
          readonly host: string;
          readonly cidr: Cidr;
        }
      : T extends 'Handle'
        ? { readonly type: 'Handle'; readonly id: string }
        : { readonly type: 'IpamConfig' };

/** A key from which the compiler infers its type. */
export type KeyOf<T extends Type> = Key<T> & { readonly type: T };

export type Value<T extends Type> = T extends Kind
  ? ResourceOf<T>
  : T extends 'Block'
    ? Block
    : T extends 'BlockAffinity'
      ? BlockAffinity
      : T extends 'Handle'
        ? Handle
        : IpamConfig;

/** A stored object and the revision that compare-and-swap refers to (opaque text). */
export interface Entry<T extends Type = Type> {
  readonly key: Key<T>;
  readonly value: Value<T>;
  readonly revision: string;
}

/** A stored value that could not be understood. */
export interface InvalidEntry {
  readonly key: Key;
  readonly error: Error;
  /** What is stored, as far as it is JSON, for those who can be strict about less than everything. */
  readonly value?: unknown;
}

export type WriteOutcome<T extends Type> =
  | { readonly outcome: 'written'; readonly entry: Entry<T> }
  /** Create of what exists, or update or delete at a revision that is no longer the current one. */
  | { readonly outcome: 'conflict' }
  /** Update or delete of what does not exist. */
  | { readonly outcome: 'missing' };

/** As WriteOutcome; what was deleted may not even have been readable, so it is not handed back. */
export type DeleteOutcome = { readonly outcome: 'written' | 'conflict' | 'missing' };

/** One step of a transaction; `revision` makes it conditional. */
export type Write =
  | { readonly op: 'create'; readonly key: Key; readonly value: Value<Type> }
  | { readonly op: 'update'; readonly key: Key; readonly value: Value<Type>; readonly revision: string }
  | { readonly op: 'delete'; readonly key: Key; readonly revision: string };

export type TransactionOutcome =
  /** New revision of every write in order; undefined for a delete. */
  | { readonly outcome: 'written'; readonly revisions: readonly (string | undefined)[] }
  | {
      readonly outcome: 'conflict';
      readonly failed: number;
      /** Of a store that is not atomic: what `revisions` would say of the writes before the failed one, which stand. */
      readonly standing?: readonly (string | undefined)[];
    };

export type Event =
  | { readonly op: 'set'; readonly entry: Entry }
  | { readonly op: 'delete'; readonly key: Key }
  | { readonly op: 'invalid'; readonly entry: InvalidEntry };

export interface Listing<T extends Type> {
  readonly entries: readonly Entry<T>[];
  readonly invalid: readonly InvalidEntry[];
  /**
   * Where a watch takes up without a gap: of this type, and of all types that the revision asked for was listed with.
   */
  readonly revision: string;
}

/** The watch cannot go on from the revision asked for (compacted, expired): list again. */
export class GoneError extends Error {
  override readonly name = 'GoneError';
}

/** The datastore cannot be reached or refuses us. Worth retrying. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

/** A namespace, host and so on to narrow a list to. */
export interface Scope {
  readonly namespace?: string;
  /** Without it, affinities of nodes alone are listed. */
  readonly host?: string;
  /**
   * Read as of this revision, so that several lists, each at the revision of the one before, show one moment; where the
   * driver has no order between types, one moment of each. @throws GoneError when it is compacted
   */
  readonly revision?: string;
}

/**
 * All calls reject with StoreUnavailableError when the datastore does not answer within the driver's deadline.
 * Keys and values are what `model/` defines; the layout underneath is the driver's.
 */
export interface Store {
  /**
   * Whether a transaction is all or nothing, a watch keeps the order of changes between types, and an endpoint is read
   * back as it was written. Where not, an endpoint is part of a Pod, whose labels are others' to give.
   */
  readonly atomic: boolean;
  get<T extends Type>(key: KeyOf<T>): Promise<Entry<T> | undefined>;
  list<T extends Type>(type: T, scope?: Scope): Promise<Listing<T>>;
  /**
   * Create and update set `metadata.uid` and `creationTimestamp` of resources that have none.
   * @throws InputError when the value does not pass the checks of its kind
   */
  create<T extends Type>(key: KeyOf<T>, value: Value<T>): Promise<WriteOutcome<T>>;
  update<T extends Type>(key: KeyOf<T>, value: Value<T>, revision: string): Promise<WriteOutcome<T>>;
  /** Without a revision: whatever is there. */
  delete<T extends Type>(key: KeyOf<T>, revision?: string): Promise<DeleteOutcome>;
  /**
   * All writes in this order, all or none where the driver can (etcd). Where it cannot, the writes before the failed
   * one stand, so the order must be safe at every step.
   */
  transact(writes: readonly Write[]): Promise<TransactionOutcome>;
  /**
   * Changes after `revision` to objects of `types`, in order, none left out; batches hold what arrived together. The
   * revision must come from lists of all the types, each made at the revision of the one before. Ends when the signal aborts. @throws GoneError, StoreUnavailableError
   */
  watch(types: readonly Type[], revision: string, signal: AbortSignal): AsyncIterable<readonly Event[]>;
  /**
   * The status of a node's agent for others to read, written without a condition. With a TTL it goes by itself unless it
   * is written again in time. Absent where the datastore has no place for it.
   */
  report?(node: string, report: Report, value: object, ttlSeconds?: number): Promise<void>;
  /** Calico's objects of kinds that are not known here, for those who must not lose any; absent where there are none. */
  others?(): Promise<readonly Other[]>;
  /**
   * Writes the addresses of a Service's load balancer into its status: all of them, or those that stand there without
   * some. Absent where the store is not Kubernetes. @throws StoreUnavailableError
   */
  writeServiceAddresses?(
    service: { readonly namespace: string; readonly name: string },
    change: { readonly all: readonly Ip[] } | { readonly without: readonly Ip[] },
  ): Promise<'written' | 'conflict' | 'missing'>;
  /**
   * What Kubernetes knows of a pod of the pod network that has a node; undefined when there is no such pod. Absent where
   * the store is not Kubernetes. @throws StoreUnavailableError
   */
  podFacts?(namespace: string, name: string): Promise<PodFacts | undefined>;
  close(): void;
}

/** A pod before it has an address. */
export interface PodFacts {
  /** As its endpoint has them. */
  readonly labels: Readonly<Record<string, string>>;
  /** Named ports, and those published on the host. */
  readonly ports: NonNullable<ResourceOf<'WorkloadEndpoint'>['spec']['ports']>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Those of them that an endpoint has too: its limits and source addresses. */
  readonly endpointAnnotations: Readonly<Record<string, string>>;
  readonly namespace: {
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
}

/** Felix's status: of the moment, and the one told last, which stays. */
export type Report = 'status' | 'last_reported_status';

/** A stored object of a kind that is not known here. */
export interface Other {
  /** Plural of its kind, such as `ipreservations`. */
  readonly plural: string;
  readonly namespace?: string;
  readonly name: string;
}

/** Canonical text of a key, for maps. */
export function keyText(key: Key): string {
  switch (key.type) {
    case 'Block':
      return `Block/${key.cidr}`;
    case 'BlockAffinity':
      return `BlockAffinity/${key.host}/${key.cidr}`;
    case 'Handle':
      return `Handle/${key.id}`;
    case 'IpamConfig':
      return 'IpamConfig';
    default:
      return key.namespace === undefined ? `${key.type}/${key.name}` : `${key.type}/${key.namespace}/${key.name}`;
  }
}
