import fc from 'fast-check';
import { expect, test } from 'vitest';
import { writeInOrder } from '../../../src/datastore/in-order.ts';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Store, StoreUnavailableError } from '../../../src/datastore/store.ts';
import { isConfirmed } from '../../../src/ipam/affinity.ts';
import type { Ipam } from '../../../src/ipam/allocator.ts';
import { affinityOf, attributeOf, sizeOf } from '../../../src/ipam/block.ts';
import { PoolExhaustedError } from '../../../src/ipam/errors.ts';
import type { Ip } from '../../../src/model/address.ts';
import { ipamOf, storeWithPools, TestClock } from '../../support/ipam.ts';

/*
 * Several nodes work on one small pool, their store calls interleaved in any order, and a node may die before or just
 * after any of its writes. What callers saw must never contradict itself, and the next run must mend what was left.
 */

type Command =
  | { readonly do: 'assign'; readonly handle: number }
  | { readonly do: 'release'; readonly handle: number }
  | { readonly do: 'restart' }
  | { readonly do: 'wait'; readonly seconds: number }
  /** The process dies at its `at`-th write from here: before it, or after it went through. */
  | { readonly do: 'die'; readonly at: number; readonly applied: boolean };

const handle = fc.integer({ min: 0, max: 11 });
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('assign' as const), handle }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), handle }) },
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(1, 45, 90) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('die' as const),
      at: fc.integer({ min: 1, max: 5 }),
      applied: fc.boolean(),
    }),
  },
);

/** So small that nodes must borrow, take over and run out. */
const poolShape = fc.constantFrom(
  { cidr: '10.0.0.0/28', blockSize: 30 },
  { cidr: '10.0.0.0/29', blockSize: 30 },
  { cidr: '10.0.0.0/29', blockSize: 31 },
);

interface Doom {
  at: number;
  readonly applied: boolean;
}

/** A node: its allocator, on a store whose calls wait for the scheduler, and which can die under it. */
class TestNode {
  ipam: Ipam;
  #doom: Doom | undefined;
  #dead = false;

  constructor(
    readonly name: string,
    private readonly store: MemoryStore,
    private readonly clock: TestClock,
    private readonly turn: () => Promise<void>,
    private readonly atomic: boolean,
  ) {
    this.ipam = ipamOf(this.#mortal(), name, clock);
  }

  doom(doom: Doom): void {
    this.#doom = doom;
  }

  get dead(): boolean {
    return this.#dead;
  }

  restart(): void {
    this.#doom = undefined;
    this.#dead = false;
    this.ipam = ipamOf(this.#mortal(), this.name, this.clock);
  }

  #mortal(): Store {
    const { store } = this;
    const read =
      <A extends unknown[], R>(call: (...given: A) => Promise<R>) =>
      async (...given: A): Promise<R> => {
        await this.turn();
        if (this.#dead) throw new StoreUnavailableError('dead');
        return call.apply(store, given);
      };
    const write =
      <A extends unknown[], R>(call: (...given: A) => Promise<R>) =>
      async (...given: A): Promise<R> => {
        await this.turn();
        const dies = this.#doom !== undefined && --this.#doom.at === 0;
        if (this.#dead || (dies && !this.#doom?.applied)) throw this.#die();
        const result = await call.apply(store, given);
        if (dies) throw this.#die();
        return result;
      };
    const mortal: Store = {
      atomic: this.atomic,
      get: read(store.get) as Store['get'],
      list: read(store.list) as Store['list'],
      create: write(store.create) as Store['create'],
      update: write(store.update) as Store['update'],
      delete: write(store.delete) as Store['delete'],
      transact: this.atomic ? write(store.transact) : (writes) => writeInOrder(mortal, writes),
      watch: store.watch.bind(store),
      close: () => undefined,
    };
    return mortal;
  }

  #die(): Error {
    this.#dead = true;
    return new StoreUnavailableError('died');
  }
}

/** What callers know: who was given which address, and of which handles the outcome is unknown. */
class Book {
  readonly held = new Map<Ip, string>();
  readonly everSeen = new Set<string>();

  given(addresses: readonly Ip[], id: string): void {
    for (const address of addresses) {
      expect(this.held.get(address), `${address} is given twice`).toBeUndefined();
      this.held.set(address, id);
    }
  }

  /** Before a release, for it may take effect at any moment. */
  releasing(id: string): void {
    for (const [address, holder] of this.held) if (holder === id) this.held.delete(address);
  }
}

async function run(node: TestNode, commands: readonly Command[], book: Book, clock: TestClock): Promise<void> {
  const { signal } = new AbortController();
  for (const step of commands) {
    if (step.do === 'restart' || node.dead) node.restart();
    const id = 'handle' in step ? `net.${node.name}-${step.handle}` : '';
    if (id) book.everSeen.add(id);
    try {
      if (step.do === 'assign') {
        const request = { handle: id, families: [4] as const, attributes: { pod: id } };
        book.given(
          (await node.ipam.assign(request, signal)).map(({ address }) => address),
          id,
        );
      }
      if (step.do === 'release') {
        book.releasing(id);
        await node.ipam.release({ handle: id });
      }
    } catch (thrown) {
      if (!(thrown instanceof PoolExhaustedError || thrown instanceof StoreUnavailableError)) throw thrown;
    }
    if (step.do === 'wait') clock.advance(step.seconds);
    if (step.do === 'die') node.doom({ at: step.at, applied: step.applied });
  }
}

/** Handles count at least what blocks hold, and blocks hold what callers were given. */
async function checkStored(store: Store, book: Book): Promise<void> {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  const { entries: handles, invalid } = await store.list('Handle');
  expect(invalid).toEqual([]);
  const counts = new Map<string, number>();
  const stored = new Map<string, Set<string>>();
  for (const block of blocks)
    for (const ordinal of block.allocations.keys()) {
      const id = attributeOf(block, ordinal)?.handle_id;
      if (!id) continue;
      counts.set(`${id} ${block.cidr}`, (counts.get(`${id} ${block.cidr}`) ?? 0) + 1);
      stored.set(id, (stored.get(id) ?? new Set()).add(block.cidr));
    }
  for (const [text, count] of counts) {
    const [id, cidr] = text.split(' ');
    const found = handles.find(({ key }) => key.id === id);
    expect(found?.value.block[cidr ?? ''] ?? 0, `count of ${text}`).toBeGreaterThanOrEqual(count);
  }
  const reader = ipamOf(store, 'reader');
  for (const [address, id] of book.held) {
    const addresses = (await reader.byHandle(id)).map((assignment) => assignment.address);
    expect(addresses, `${id} lost ${address}`).toContain(address);
  }
}

/** Every block has its confirmed affinity and no affinity lacks its block. */
async function checkAffinities(store: Store): Promise<void> {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  const { entries } = await store.list('BlockAffinity');
  const owned = blocks.flatMap(({ cidr, affinity }) => (affinity ? [`${affinity} ${cidr}`] : []));
  expect(entries.map(({ key }) => `${affinityOf(key.host)} ${key.cidr}`).sort()).toEqual(owned.sort());
  for (const { key, value } of entries) expect(isConfirmed(value), `${key.host} ${key.cidr} ${value.state}`).toBe(true);
}

async function mend(store: Store, names: readonly string[], clock: TestClock): Promise<void> {
  for (const name of names)
    await ipamOf(store, name, clock)
      .ensureAffinity(4, new AbortController().signal)
      .catch((thrown: unknown) => {
        if (!(thrown instanceof PoolExhaustedError)) throw thrown;
      });
}

async function releaseAll(store: Store, book: Book): Promise<void> {
  const ipam = ipamOf(store, 'n1');
  for (const id of book.everSeen) await ipam.release({ handle: id });
  expect((await store.list('Handle')).entries).toEqual([]);
  for (const { value } of (await store.list('Block')).entries) {
    expect(value.allocations.every((index) => index === null)).toBe(true);
    expect([...value.unallocated].sort((a, b) => a - b)).toEqual(
      Array.from({ length: sizeOf(value.cidr) }, (_, at) => at),
    );
    expect(value.sequenceNumberForAllocation).toEqual({});
  }
}

test.each<[string, object, boolean]>([
  ['borrowing', {}, true],
  ['borrowing, transactions in steps', {}, false],
  ['strict affinity', { strict_affinity: true, auto_allocate_blocks: true }, true],
  ['two blocks a node', { strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 2 }, true],
  ['a cooldown', { auto_allocate_blocks: true, ipCooldownSeconds: 60 }, true],
  ['a cooldown, transactions in steps', { auto_allocate_blocks: true, ipCooldownSeconds: 60 }, false],
])(
  'nodes that interleave and die never give an address twice, and leave nothing behind: %s',
  async (_what, config, atomic) => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.array(command, { maxLength: 25, size: 'max' }), { minLength: 2, maxLength: 3 }),
        poolShape,
        async (scheduler, scripts, pool) => {
          const store = await storeWithPools({ small: pool });
          if (Object.keys(config).length > 0) await store.create({ type: 'IpamConfig' }, config);
          const clock = new TestClock();
          const book = new Book();
          const names = scripts.map((_, index) => `n${index + 1}`);
          const turn = () => scheduler.schedule(Promise.resolve());
          const nodes = names.map((name) => new TestNode(name, store, clock, turn, atomic));
          const all = Promise.all(nodes.map((node, index) => run(node, scripts[index] ?? [], book, clock)));
          await scheduler.waitFor(all);
          await checkStored(store, book);
          clock.advance(3600);
          await mend(store, names, clock);
          await checkAffinities(store);
          await checkStored(store, book);
          if (!('ipCooldownSeconds' in config)) await releaseAll(store, book);
        },
      ),
      { numRuns: 100 },
    );
  },
);
