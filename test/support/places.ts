import { createHash } from 'node:crypto';
import { type Key, keyText } from '../../src/datastore/store.ts';

/*
 * When are two moments of processes that share a store the same, so that the same can follow? When the same objects are
 * stored and each process was given the same answers. Two things do not count, or there would be too many moments:
 *
 * - how often an object was written. Processes ask of revisions only whether two are the same, so the versions of an
 *   object that somebody still knows are numbered in their order, and those in between, that nobody saw, are left out;
 * - answers that a process has forgotten, as it says itself where it begins an attempt anew.
 */

/** What a process was told. */
export interface Answer {
  /** `get Block/10.0.0.0-31` */
  readonly call: string;
  /** Of a write. */
  readonly outcome: string;
  /** Of the objects that it was told, `<key>@<writes since the beginning>`. */
  readonly versions: readonly string[];
}

/** What is stored and what each process knows of it. */
export class Places {
  readonly #writes = new Map<string, number>();
  /** version → what was stored then */
  readonly #texts = new Map<string, string>();
  readonly #answers: (readonly Answer[])[];

  constructor(
    processes: number,
    private readonly textOf: (key: Key) => string | undefined,
  ) {
    this.#answers = Array.from({ length: processes }, () => []);
  }

  /** The present version of an object. */
  version(key: string): string {
    return `${key}@${this.#writes.get(key) ?? 0}`;
  }

  /** Present versions of those objects that were written and whose keys begin with `prefix`. */
  versionsOf(prefix: string): string[] {
    const keys = [...this.#writes.keys()].filter((key) => key.startsWith(prefix));
    return keys.toSorted().map((key) => this.version(key));
  }

  written(key: Key): void {
    const name = keyText(key);
    this.#writes.set(name, (this.#writes.get(name) ?? 0) + 1);
    this.#texts.set(this.version(name), this.textOf(key) ?? 'deleted');
  }

  answered(process: number, answer: Answer): void {
    this.#answers[process] = [...(this.#answers[process] ?? []), answer];
  }

  /** The process forgets all but what is `kept`, and knows that it begins `loop` anew. */
  again(process: number, loop: string, kept: (answers: readonly Answer[]) => readonly Answer[]): void {
    const begun = { call: loop, outcome: 'again', versions: [] };
    this.#answers[process] = [...kept(this.#answers[process] ?? []), begun];
  }

  /**
   * The same for moments that are the same. There are many thousands, each of some thousand octets.
   * @param outcomes what came of the processes that ended; what they were answered does not matter any more
   */
  digest(outcomes: readonly (string | undefined)[], dead: number | undefined): string {
    const answers = this.#answers.map((each, at) => (outcomes[at] === undefined ? each : []));
    const stored = this.versionsOf('');
    const names = this.#named([...stored, ...answers.flat().flatMap(({ versions }) => versions)]);
    const named = (versions: readonly string[]) => versions.map((version) => names.get(version));
    const known = answers.map((each, at) => [
      outcomes[at] ?? '',
      ...each.map(({ call, outcome, versions }) => [call, outcome, named(versions)]),
    ]);
    return createHash('sha256')
      .update(JSON.stringify([named(stored), known, dead ?? -1]))
      .digest('base64');
  }

  /** version → its object, its place among those that are known of this, what was stored. */
  #named(versions: readonly string[]): Map<string, string> {
    const names = new Map<string, string>();
    const counts = new Map<string, number>();
    for (const version of [...new Set(versions)].toSorted((a, b) => writesOf(a) - writesOf(b))) {
      const key = version.slice(0, version.lastIndexOf('@'));
      const place = (counts.get(key) ?? 0) + 1;
      counts.set(key, place);
      names.set(version, `${key} ${place} ${this.#texts.get(version) ?? 'as in the beginning'}`);
    }
    return names;
  }
}

function writesOf(version: string): number {
  return Number(version.slice(version.lastIndexOf('@') + 1));
}
