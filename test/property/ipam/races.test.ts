import { expect, test } from 'vitest';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import type { Store } from '../../../src/datastore/store.ts';
import { claimBlock, releaseAffinity } from '../../../src/ipam/affinity.ts';
import { Ipam } from '../../../src/ipam/allocator.ts';
import { ContentionError, PoolExhaustedError } from '../../../src/ipam/errors.ts';
import { type Cidr, parseCidr } from '../../../src/model/address.ts';
import { type Again, explore, type Race } from '../../support/interleavings.ts';
import { poolValue, storeWithPools, TestClock } from '../../support/ipam.ts';
import { attemptLog } from '../../support/ipam-attempts.ts';
import { Book, checkAffinities, checkStored, mend, releaseAll } from '../../support/ipam-invariants.ts';
import { seeded } from '../../support/seeded.ts';

/*
 * Two nodes on one pool, in every order in which their calls can reach the datastore, and with either of them dying at
 * any moment: no address is held twice, callers keep what they were given, and once the nodes ran again nothing
 * is left over. Here some of the orders; by `npm run test:ipam-races` all of them, or as far as MARGAY_RACES places lead.
 */

const { signal } = new AbortController();

/** Tries instead of the hundred of agents: two that keep undoing each other's steps would be followed for ever. */
const attempts = 2;

interface Scene {
  readonly clock: TestClock;
  readonly book: Book;
}

/** What a process does, by the name of its node. */
type Act = (ipam: Ipam, store: Store, scene: Scene, again?: Again) => Promise<unknown>;

interface Play {
  readonly pool: { readonly cidr: string; readonly blockSize: number };
  /** Done before the race, each as the node named; a minute later it begins. */
  readonly before?: readonly (readonly [string, Act])[];
  readonly race: readonly [readonly [string, Act], readonly [string, Act]];
  readonly config?: object;
}

/** @param contested the other releases the same handle: what it holds is for the datastore to say */
const assign =
  (handle: string, contested = false): Act =>
  async (ipam, _store, { book }) => {
    book.everSeen.add(handle);
    const given = await ipam.assign({ handle, families: [4], attributes: {} }, signal).catch((thrown: unknown) => {
      if (thrown instanceof PoolExhaustedError) return [];
      throw thrown;
    });
    const addresses = given.map(({ address }) => address);
    if (!contested) book.given(addresses, handle);
    return addresses;
  };

const release =
  (handle: string): Act =>
  async (ipam, _store, { book }) => {
    book.releasing(handle);
    await ipam.release({ handle });
  };

const affinity = (work: (scene: Parameters<typeof claimBlock>[0]) => Promise<unknown>): Act => {
  return async (_ipam, store, { clock }, again) => {
    await work({ store, clock, log: attemptLog(again), attempts });
  };
};
const block: Cidr = parseCidr('10.0.0.0/31');
const claim = (node: string) => affinity((scene) => claimBlock(scene, node, block));
const giveUp = (node: string, onlyEmpty = false) =>
  affinity((scene) => releaseAffinity(scene, node, block, { onlyEmpty }));

const two = { cidr: '10.0.0.0/30', blockSize: 31 };
const one = { cidr: '10.0.0.0/31', blockSize: 31 };
const strict = { strict_affinity: true, auto_allocate_blocks: true };

const plays: readonly (readonly [string, Play])[] = [
  [
    'both assign first addresses',
    {
      pool: two,
      race: [
        ['n1', assign('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'both assign first addresses, of a pool with one block',
    {
      pool: one,
      race: [
        ['n1', assign('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'both assign first addresses, of a pool with one block that is not shared',
    {
      pool: one,
      config: strict,
      race: [
        ['n1', assign('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'the owner and a borrower assign the last address',
    {
      pool: one,
      before: [['n1', assign('x')]],
      race: [
        ['n1', assign('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'a borrower assigns while the owner releases',
    {
      pool: one,
      before: [['n1', assign('a')]],
      race: [
        ['n1', release('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'one handle is assigned and released',
    {
      pool: one,
      race: [
        ['n1', assign('a', true)],
        ['n2', release('a')],
      ],
    },
  ],
  [
    'one handle is assigned more and released',
    {
      pool: two,
      before: [['n1', assign('a')]],
      race: [
        ['n1', assign('a', true)],
        ['n2', release('a')],
      ],
    },
  ],
  [
    'the owner of an empty block assigns while another takes the block over',
    {
      pool: one,
      before: [
        ['n1', assign('x')],
        ['n1', release('x')],
      ],
      race: [
        ['n1', assign('a')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'a block without owner loses its last address, and is deleted, while another borrows from it',
    {
      pool: one,
      before: [
        ['n1', assign('x')],
        ['n1', giveUp('n1')],
      ],
      race: [
        ['n1', release('x')],
        ['n2', assign('b')],
      ],
    },
  ],
  [
    'a node is removed while it assigns',
    {
      pool: one,
      before: [['n1', claim('n1')]],
      race: [
        ['n1', assign('a')],
        ['n2', giveUp('n1')],
      ],
    },
  ],
  [
    'two claim a block',
    {
      pool: one,
      race: [
        ['n1', claim('n1')],
        ['n2', claim('n2')],
      ],
    },
  ],
  [
    'a block is claimed while its owner gives it up',
    {
      pool: one,
      before: [['n1', claim('n1')]],
      race: [
        ['n1', giveUp('n1')],
        ['n2', claim('n2')],
      ],
    },
  ],
  [
    'an owner claims again while an empty block is taken from it',
    {
      pool: one,
      before: [['n1', claim('n1')]],
      race: [
        ['n1', claim('n1')],
        ['n2', giveUp('n1', true)],
      ],
    },
  ],
  [
    'two give one block up',
    {
      pool: one,
      before: [['n1', assign('x')]],
      race: [
        ['n1', giveUp('n1')],
        ['n2', giveUp('n1', true)],
      ],
    },
  ],
];

async function perform(play: Play, sample: Race['sample']) {
  let scene: Scene = { clock: new TestClock(), book: new Book() };
  const nodes = ['n1', 'n2'];
  /** An allocator that knows pools and settings without asking, as an agent's does. */
  const fed = async (store: Store, node: string, again?: Again) => {
    const ipam = new Ipam({ store, node, clock: scene.clock, log: attemptLog(again), attempts });
    const key = { type: 'IPPool', name: 'pool' } as const;
    const pool = { key, value: poolValue('pool', play.pool.cidr, defaults(play)), revision: '1' };
    const config = play.config && { key: { type: 'IpamConfig' } as const, value: play.config, revision: '1' };
    const entries = [pool, ...(config ? [config] : [])];
    ipam.consume({ op: 'events', events: entries.map((entry) => ({ op: 'set', entry })) });
    ipam.consume({ op: 'inSync' });
    return ipam;
  };
  return explore({
    deaths: true,
    ...(sample && { sample }),
    begin: async () => {
      scene = { clock: new TestClock(), book: new Book() };
      const store = await storeWithPools({ pool: play.pool });
      if (play.config) await store.create({ type: 'IpamConfig' }, play.config);
      for (const [node, act] of play.before ?? []) await act(await fed(store, node), store, scene);
      scene.clock.advance(61);
      const here = scene;
      const processes = play.race.map(
        ([node, act]) =>
          async (gated: Store, again: Again) =>
            String(await act(await fed(gated, node, again), gated, here, again).catch(contended)),
      );
      return { store, processes };
    },
    end: (store: MemoryStore) => finish(store, nodes, scene),
  });
}

/** That others kept it from a block is an outcome, as it is for a pod's ADD. */
function contended(thrown: unknown): string {
  if (thrown instanceof ContentionError) return 'contended';
  throw thrown;
}

/** What the API server or etcd's readers would fill in. */
function defaults({ pool: { blockSize } }: Play): object {
  return { blockSize, allowedUses: ['Workload', 'Tunnel'], nodeSelector: 'all()', assignmentMode: 'Automatic' };
}

async function finish(store: MemoryStore, nodes: readonly string[], { clock, book }: Scene): Promise<void> {
  await checkStored(store, book);
  clock.advance(3600);
  await mend(store, nodes, clock);
  await checkStored(store, book);
  await checkAffinities(store);
  await releaseAll(store, book);
}

const asked = process.env['MARGAY_RACES'] ?? '150';
const full = asked === 'full';

test.each(plays)(
  '%s',
  async (name, play) => {
    expect(full || /^[1-9]\d*$/.test(asked), 'MARGAY_RACES: full, or a number of places').toBe(true);
    const began = performance.now();
    const { states, ends, complete } = await perform(
      play,
      full ? undefined : { states: Number(asked), random: seeded(7) },
    );
    expect(ends).toBeGreaterThan(1);
    if (process.env['MARGAY_RACES'] === undefined) return;
    const seconds = Math.round((performance.now() - began) / 1000);
    process.stdout.write(`${name}: ${states} places, ${ends} ends${complete ? ', all' : ''}, ${seconds} s\n`);
  },
  6 * 3_600_000,
);
