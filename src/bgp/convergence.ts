import type { Family } from '../model/address.ts';

/**
 * Who must still tell their first whole table before what this speaker knows can be called complete. Path selection
 * after a restart, and the end of felix's snapshot, wait for it. RFC 4724 §4.1.
 */
export class Convergence {
  readonly #awaited = new Set<string>();
  #given = false;

  expect(peer: string, families: readonly Family[]): void {
    if (!this.#given) for (const family of families) this.#awaited.add(`${family} ${peer}`);
  }

  /** The peer sent its end-of-RIB mark, or will send none that we could wait for. */
  settle(peer: string, family: Family): void {
    this.#awaited.delete(`${family} ${peer}`);
  }

  /** Time is up. */
  giveUp(): void {
    this.#given = true;
    this.#awaited.clear();
  }

  get complete(): boolean {
    return this.#awaited.size === 0;
  }

  /** The peers awaited, each `family name`. */
  get awaited(): readonly string[] {
    return [...this.#awaited];
  }
}
