import type { Selector } from '../model/selector.ts';

export type LabelMap = ReadonlyMap<string, string>;

interface Item {
  labels: LabelMap;
  readonly matches: Set<string>;
}

interface Entry {
  readonly selector: Selector;
  readonly members: Set<string>;
  /** Keys of `byPin` that lead here; undefined: every item must be tried. */
  readonly pins: readonly string[] | undefined;
}

/** What an index holds, and how often it tried a selector on an item since its start, by what came of it. */
export interface LabelStats {
  readonly items: number;
  /** Selectors that demand a value of some label, so that only items with it are tried. */
  readonly pinned: number;
  /** Selectors for which every item is tried. */
  readonly unpinned: number;
  readonly matched: number;
  readonly unmatched: number;
}

export interface LabelIndexEvents {
  join(selector: string, item: string): void;
  leave(selector: string, item: string): void;
}

/**
 * Which items each selector matches, kept up to date. A change of one item tries only the selectors that could match
 * one of its labels, and a new selector only the items that have the label value it demands, where it demands one.
 */
export class LabelIndex {
  readonly #items = new Map<string, Item>();
  readonly #selectors = new Map<string, Entry>();
  /** Label and value → selectors that demand it, and items that have it. */
  readonly #byPin = new Map<string, Set<string>>();
  readonly #byLabel = new Map<string, Set<string>>();
  readonly #unpinned = new Set<string>();
  #matched = 0;
  #unmatched = 0;

  constructor(private readonly events: LabelIndexEvents) {}

  setItem(name: string, labels: LabelMap): void {
    const item = this.#items.get(name) ?? { labels: new Map(), matches: new Set<string>() };
    if (this.#items.has(name) && sameMap(item.labels, labels)) return;
    this.#relabel(name, item.labels, labels);
    item.labels = labels;
    this.#items.set(name, item);
    const candidates = new Set([...item.matches, ...this.#unpinned]);
    for (const key of pinKeys(labels)) for (const id of this.#byPin.get(key) ?? []) candidates.add(id);
    for (const id of candidates) this.#try(id, name, item);
  }

  deleteItem(name: string): void {
    const item = this.#items.get(name);
    if (!item) return;
    for (const id of item.matches) {
      this.#selectors.get(id)?.members.delete(name);
      this.events.leave(id, name);
    }
    this.#relabel(name, item.labels, new Map());
    this.#items.delete(name);
  }

  /** A selector under a name of the caller's; one that exists is replaced, with events for the difference only. */
  setSelector(id: string, selector: Selector): void {
    const before = this.#selectors.get(id);
    if (before?.selector.canonical === selector.canonical) return;
    if (before) this.#unpin(id, before);
    const pins = choosePins(selector);
    this.#selectors.set(id, { selector, members: before?.members ?? new Set(), pins });
    for (const key of pins ?? []) add(this.#byPin, key, id);
    if (!pins) this.#unpinned.add(id);
    const candidates = new Set(before?.members ?? []);
    for (const name of pins ? pins.flatMap((key) => [...(this.#byLabel.get(key) ?? [])]) : this.#items.keys())
      candidates.add(name);
    for (const name of candidates) {
      const item = this.#items.get(name);
      if (item) this.#try(id, name, item);
    }
  }

  deleteSelector(id: string): void {
    const entry = this.#selectors.get(id);
    if (!entry) return;
    this.#unpin(id, entry);
    this.#selectors.delete(id);
    for (const name of entry.members) {
      this.#items.get(name)?.matches.delete(id);
      this.events.leave(id, name);
    }
  }

  get stats(): LabelStats {
    const unpinned = this.#unpinned.size;
    const pinned = this.#selectors.size - unpinned;
    return { items: this.#items.size, pinned, unpinned, matched: this.#matched, unmatched: this.#unmatched };
  }

  /** Items that the selector matches. */
  members(id: string): ReadonlySet<string> {
    return this.#selectors.get(id)?.members ?? new Set();
  }

  /** Selectors that match the item. */
  matches(name: string): ReadonlySet<string> {
    return this.#items.get(name)?.matches ?? new Set();
  }

  #try(id: string, name: string, item: Item): void {
    const entry = this.#selectors.get(id);
    if (!entry) return;
    const now = entry.selector.matches(item.labels);
    if (now) this.#matched++;
    else this.#unmatched++;
    if (now === entry.members.has(name)) return;
    if (now) {
      entry.members.add(name);
      item.matches.add(id);
      this.events.join(id, name);
    } else {
      entry.members.delete(name);
      item.matches.delete(id);
      this.events.leave(id, name);
    }
  }

  #unpin(id: string, entry: Entry): void {
    for (const key of entry.pins ?? []) remove(this.#byPin, key, id);
    this.#unpinned.delete(id);
  }

  #relabel(name: string, before: LabelMap, after: LabelMap): void {
    for (const [label, value] of before)
      if (after.get(label) !== value) remove(this.#byLabel, pinKey(label, value), name);
    for (const key of pinKeys(after)) add(this.#byLabel, key, name);
  }
}

/** Labels that most objects carry, so that looking up by them finds too much. */
const common = new Set(['projectcalico.org/orchestrator']);

/** The demand with the fewest values; a namespace tells objects apart best. */
function choosePins(selector: Selector): readonly string[] | undefined {
  const ranked = [...selector.pins].filter(([label]) => !common.has(label));
  const rank = ([label, values]: readonly [string, readonly string[]]) =>
    values.length * 10 - (label === 'projectcalico.org/namespace' ? 1 : 0);
  ranked.sort((a, b) => rank(a) - rank(b));
  const best = ranked[0];
  return best?.[1].map((value) => pinKey(best[0], value));
}

function pinKey(label: string, value: string): string {
  return `${label}\0${value}`;
}

function* pinKeys(labels: LabelMap): Iterable<string> {
  for (const [label, value] of labels) yield pinKey(label, value);
}

function add(index: Map<string, Set<string>>, key: string, value: string): void {
  const set = index.get(key);
  if (set) set.add(value);
  else index.set(key, new Set([value]));
}

function remove(index: Map<string, Set<string>>, key: string, value: string): void {
  const set = index.get(key);
  if (!set?.delete(value)) return;
  if (set.size === 0) index.delete(key);
}

function sameMap(a: LabelMap, b: LabelMap): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}
