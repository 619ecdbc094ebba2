import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { OwedPaths } from '../../../src/bgp/owed-paths.ts';
import { Rib, type Source } from '../../../src/bgp/rib.ts';
import { type ToldPath, ToldPaths } from '../../../src/bgp/told-paths.ts';
import { ipFromNumber, parseCidr, parseIp } from '../../../src/model/address.ts';

const prefixCount = 8;

/** A peer that is told paths as it takes them, of one group and then of another. */
class Listener {
  readonly interner = new AttributeInterner();
  readonly rib = new Rib(4, this.interner, () => undefined);
  /** Two groups: the second one tells only paths of even numbers. */
  readonly outs = [new ToldPaths(this.rib), new ToldPaths(this.rib)] as const;
  readonly heard = new Map<string, number>();
  /** What was heard since everything was asked for once more. */
  readonly again = new Set<string>();
  readonly self: number;
  readonly ids: readonly number[];
  readonly sources: readonly number[];
  #group: 0 | 1 = 0;
  #owed = new OwedPaths(this.rib.prefixes, this.outs[0]);
  #moved = false;

  constructor() {
    this.sources = [1, 2, 3].map((i) => {
      const address = ipFromNumber(BigInt(i), 4);
      const source: Source = { name: `peer ${i}`, kind: 'ibgp', address, client: true, identifier: address };
      const id = this.rib.sources.intern(source);
      this.rib.sources.retain(id);
      return id;
    });
    this.self = this.sources[0] ?? 0;
    this.ids = Array.from({ length: prefixCount }, (_, i) => {
      const id = this.rib.prefixes.internCidr(parseCidr(`10.0.${i}.0/24`));
      this.rib.prefixes.retain(id);
      return id;
    });
  }

  get upToDate(): boolean {
    return this.#owed.size === 0;
  }

  join(): void {
    this.#owed.addAll(false);
  }

  refresh(): void {
    this.again.clear();
    this.#owed.addAll(true);
  }

  move(): void {
    const to = this.#group === 0 ? 1 : 0;
    const next = new OwedPaths(this.rib.prefixes, this.outs[to]);
    next.addKnown(this.outs[this.#group], this.#owed, this.self);
    next.addAll(false);
    this.#owed.clear();
    this.#owed = next;
    this.#group = to;
    this.#moved = true;
  }

  change(id: number, paths: readonly ToldPath[]): void {
    for (const [group, out] of this.outs.entries()) {
      const before = out.of(id);
      const after = paths.filter(({ path }) => group === 0 || path % 2 === 0);
      out.set(id, after);
      if (group === this.#group) this.#follow(id, before, after);
    }
  }

  #follow(id: number, before: readonly ToldPath[], after: readonly ToldPath[]): void {
    const late = !this.upToDate;
    for (const path of new Set([...before, ...after].map((one) => one.path))) {
      const was = before.find((one) => one.path === path);
      const now = after.find((one) => one.path === path);
      if (was?.attributes === now?.attributes && was?.source === now?.source) continue;
      const told = was !== undefined && was.source !== this.self;
      const tell = now !== undefined && now.source !== this.self;
      if (!told && !tell) continue;
      if (late) this.#owed.add(id, path, told);
      else this.#hear(id, path, told);
    }
  }

  take(most: number): void {
    for (const { id, path, told } of this.#owed.take(most, this.self)) {
      this.#hear(id, path, told);
      this.rib.prefixes.release(id);
    }
  }

  #hear(id: number, path: number, told: boolean): void {
    const now = this.outs[this.#group].find(id, path);
    const key = `${id} ${path}`;
    if (now && now.source !== this.self) {
      this.heard.set(key, now.attributes);
      this.again.add(key);
    } else if (told) {
      const known = this.heard.delete(key);
      if (!this.#moved) expect(known, 'withdrawn without having been told').toBe(true);
    }
  }

  expected(): Map<string, number> {
    const out = this.outs[this.#group];
    const all = this.ids.flatMap((id) => out.of(id).map((told) => ({ id, ...told })));
    return new Map(
      all.filter(({ source }) => source !== this.self).map(({ id, path, attributes }) => [`${id} ${path}`, attributes]),
    );
  }

  /** References that are left when nobody is told anything any longer. */
  leave(): number {
    this.#owed.clear();
    for (const id of this.ids) {
      this.change(id, []);
      this.#owed.clear();
      this.rib.prefixes.release(id);
    }
    return this.rib.prefixes.count;
  }
}

const path = fc.record({ path: fc.integer({ min: 1, max: 4 }), set: fc.nat({ max: 1 }), source: fc.nat({ max: 2 }) });
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('change' as const),
      prefix: fc.nat({ max: prefixCount - 1 }),
      paths: fc.uniqueArray(path, { maxLength: 4, selector: (one) => one.path }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('take' as const), most: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('refresh' as const, 'move' as const) }) },
);

test('a table that is walked in slices while it changes is told as if it had been told at once', () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 20 }),
      fc.array(command, { minLength: 30, maxLength: 80, size: 'max' }),
      (late, commands) => {
        const listener = new Listener();
        const sets = [1, 2].map((i) => {
          const nextHop = parseIp(`192.0.2.${i}`);
          const id = listener.interner.intern({ origin: 'igp', asPath: [], nextHop, localPref: 100 });
          listener.interner.retain(id);
          return id;
        });
        let refreshed = false;
        for (const [i, item] of commands.entries()) {
          if (i === late) listener.join();
          if (item.do === 'change') {
            const id = listener.ids[item.prefix] ?? 0;
            const told = item.paths.map(({ path: number, set, source }): ToldPath => {
              return { path: number, attributes: sets[set] ?? 0, source: listener.sources[source] ?? 0 };
            });
            // Before it joins nobody listens.
            if (i >= late) listener.change(id, told);
            else
              for (const [group, out] of listener.outs.entries())
                out.set(
                  id,
                  told.filter((one) => group === 0 || one.path % 2 === 0),
                );
          } else if (i < late) continue;
          else if (item.do === 'take') listener.take(item.most);
          else if (item.do === 'move') listener.move();
          else {
            listener.refresh();
            refreshed = true;
          }
        }
        if (commands.length <= late) listener.join();
        for (let turns = 0; !listener.upToDate; turns++) {
          expect(turns, 'turns').toBeLessThan(1000);
          listener.take(3);
        }
        expect(listener.heard).toEqual(listener.expected());
        if (refreshed) for (const key of listener.expected().keys()) expect(listener.again).toContain(key);
        expect(listener.leave(), 'prefixes still kept').toBe(0);
      },
    ),
    { numRuns: 500 },
  );
});
