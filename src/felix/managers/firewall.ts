import type { Failure } from '../../base/reconcile.ts';
import type { DesiredSet, DesiredTable, Ipsets, Iptables, TableName } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';

/**
 * Something that is handed over whole and compared by identity: it is applied when it changed, when it was invalidated,
 * or when the last try failed and it is time for another.
 */
class Handover<D> {
  #applied: D | undefined;
  #failed: { readonly desired: D; readonly failure: Failure } | undefined;

  constructor(
    private readonly kind: string,
    private readonly item: string,
    private readonly effect: (desired: D) => Promise<unknown>,
  ) {}

  get applied(): D | undefined {
    return this.#applied;
  }

  /** The present failure, or undefined when `desired` stands. */
  async apply(desired: D, retry: boolean): Promise<Failure | undefined> {
    if (desired === this.#applied) return undefined;
    if (desired === this.#failed?.desired && !retry) return this.#failed.failure;
    try {
      await this.effect(desired);
      this.#applied = desired;
      this.#failed = undefined;
      return undefined;
    } catch (cause) {
      const failure: Failure = { kind: this.kind, item: this.item, cause };
      this.#applied = undefined;
      this.#failed = { desired, failure };
      return failure;
    }
  }

  invalidate(): void {
    this.#applied = undefined;
    this.#failed = undefined;
  }
}

/** All IP sets of both families. */
export class SetManager {
  readonly #updates: Handover<ReadonlyMap<string, DesiredSet>>;
  #swept: ReadonlyMap<string, DesiredSet> | undefined;

  constructor(private readonly ipsets: Ipsets) {
    this.#updates = new Handover('ipset', 'updates', (desired) => ipsets.applyUpdates(desired));
  }

  update(desired: ReadonlyMap<string, DesiredSet>, retry: boolean): Promise<Failure | undefined> {
    return this.#updates.apply(desired, retry);
  }

  /** Whether every set is in the kernel already, whatever its members: rules may refer to it. */
  hasAll(desired: ReadonlyMap<string, DesiredSet>): boolean {
    const applied = this.#updates.applied;
    return applied !== undefined && [...desired.values()].every(({ name, type }) => applied.get(name)?.type === type);
  }

  /** Whether sets that nothing refers to any more may be left. */
  sweepDue(desired: ReadonlyMap<string, DesiredSet>): boolean {
    return desired !== this.#swept;
  }

  /**
   * Destroys what is not in `desired`; only after the rules that referred to it are gone. What cannot be destroyed, for
   * another's rule uses it, is tried again when the sets change or are read again.
   */
  async sweep(desired: ReadonlyMap<string, DesiredSet>): Promise<Failure | undefined> {
    this.#swept = desired;
    try {
      await this.ipsets.applyDeletions(desired);
      return undefined;
    } catch (cause) {
      return { kind: 'ipset', item: 'deletions', cause };
    }
  }

  invalidate(): void {
    this.ipsets.invalidate();
    this.#updates.invalidate();
    this.#swept = undefined;
  }
}

/** The tables of one family, written by one restore. */
export class TablesManager {
  readonly #restore: Handover<ReadonlyMap<TableName, DesiredTable>>;

  constructor(
    private readonly iptables: Iptables,
    family: Family,
  ) {
    this.#restore = new Handover('iptables', `IPv${family}`, (desired) => iptables.apply(desired));
  }

  apply(desired: ReadonlyMap<TableName, DesiredTable>, retry: boolean): Promise<Failure | undefined> {
    return this.#restore.apply(desired, retry);
  }

  invalidate(): void {
    this.iptables.invalidate();
    this.#restore.invalidate();
  }
}
