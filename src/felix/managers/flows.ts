import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Failure } from '../../base/reconcile.ts';
import { Trigger } from '../../base/trigger.ts';
import type { Ip } from '../../model/address.ts';

/** Deletes the conntrack entries of an address. */
export type DeleteFlows = (address: Ip) => Promise<unknown>;

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
    /** Told after each address that is done. */
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
      let failed = false;
      for (const address of [...this.#waiting]) {
        if (signal.aborted) return;
        if (!(await this.#purge(address))) failed = true;
      }
      if (failed) await pause(this.clock, backoff.next(), signal);
      else backoff.reset();
    }
  }

  async #purge(address: Ip): Promise<boolean> {
    try {
      await this.deleteFlows(address);
      this.#waiting.delete(address);
      this.#failed.delete(address);
      this.done();
      return true;
    } catch (cause) {
      this.#failed.set(address, { kind: 'conntrack', item: address, cause });
      this.log.warn(
        { address, error: explain(cause) },
        'connections of a departed address could not be cut; will retry',
      );
      return false;
    }
  }
}
