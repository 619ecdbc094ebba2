import fc from 'fast-check';
import { test } from 'vitest';
import { writeInOrder } from '../../../src/datastore/in-order.ts';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Store, StoreUnavailableError } from '../../../src/datastore/store.ts';
import type { Ipam } from '../../../src/ipam/allocator.ts';
import { PoolExhaustedError } from '../../../src/ipam/errors.ts';
import { ipamOf, storeWithPools, TestClock } from '../../support/ipam.ts';
import { Book, checkAffinities, checkStored, mend, releaseAll } from '../../support/ipam-invariants.ts';

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
