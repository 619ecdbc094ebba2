import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Failure } from '../../base/reconcile.ts';
import { Trigger } from '../../base/trigger.ts';
import type { Ip } from '../../model/address.ts';

/** Deletes the conntrack entries of addresses. */
export type DeleteFlows = (addresses: readonly Ip[]) => Promise<unknown>;

/**
 * Cuts the connections of addresses that left the node, so that the next pod with the address inherits none. It runs
 * beside the passes: a pod that starts does not wait for one that ended.
 */
export class FlowManager {
  readonly #waiting = new Set<Ip>();
  readonly #failed = new Map<Ip, Failure>();
  readonly #wake: Trigger;

  constructor(
    private readonly deleteFlows: DeleteFlows,
    private readonly clock: Clock,
    private readonly log: Log,
    /** Told when addresses are done. */
    private readonly done: () => void,
  ) {
    this.#wake = new Trigger(clock);
  }

  get failures(): Failure[] {
    return [...this.#failed.values()];
  }

  add(addresses: Iterable<Ip>): void {
    for (const address of addresses) this.#waiting.add(address);
    if (this.#waiting.size > 0) this.#wake.fire();
  }

  pending(address: Ip): boolean {
    return this.#waiting.has(address);
  }

  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(100, 10_000);
    while (!signal.aborted) {
      if (this.#waiting.size === 0) await this.#wake.wait(undefined, signal);
      if (signal.aborted) return;
      const failed = !(await this.#purgeAll([...this.#waiting], signal));
      if (failed) await pause(this.clock, backoff.next(), signal);
      else backoff.reset();
    }
  }

  /** Together, in one walk of the table; if that fails, each alone, so that one does not hold up the others. */
  async #purgeAll(addresses: readonly Ip[], signal: AbortSignal): Promise<boolean> {
    if (addresses.length === 0 || (await this.#purge(addresses))) return true;
    if (addresses.length === 1) return false;
    let all = true;
    for (const address of addresses) {
      if (signal.aborted) return false;
      if (!(await this.#purge([address]))) all = false;
    }
    return all;
  }

  async #purge(addresses: readonly Ip[]): Promise<boolean> {
    try {
      await this.deleteFlows(addresses);
      for (const address of addresses) {
        this.#waiting.delete(address);
        this.#failed.delete(address);
      }
      this.done();
      return true;
    } catch (cause) {
      for (const address of addresses) this.#failed.set(address, { kind: 'conntrack', item: address, cause });
      this.log.warn(
        { addresses, error: explain(cause) },
        'connections of departed addresses could not be cut; will retry',
      );
      return false;
    }
  }
}
