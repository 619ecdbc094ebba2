import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Value } from '../../../src/datastore/store.ts';
import { PoolExhaustedError } from '../../../src/ipam/errors.ts';
import { Reserved } from '../../../src/ipam/reserved.ts';
import { type Cidr, cidrOf, contains, formatIp, type Ip, ipBytes, parseCidr } from '../../../src/model/address.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { ipamOf, storeWithPools } from '../../support/ipam.ts';

/* IPReservations: what they cover, and that no address of theirs is given to who did not ask for it by name. */

const never = new AbortController().signal;

/** Prefixes in and around 10.0.0.0/27. */
const prefix = fc
  .record({ last: fc.integer({ min: 0, max: 40 }), length: fc.integer({ min: 28, max: 32 }) })
  .map(({ last, length }) => cidrOf(Uint8Array.of(10, 0, 0, last), length));
const prefixes = fc.array(prefix, { maxLength: 6 });

const all = (count: number) => Array.from({ length: count }, (_, at) => formatIp(Uint8Array.of(10, 0, 0, at)));
const isIn = (cidrs: readonly Cidr[], address: Ip) => cidrs.some((cidr) => contains(cidr, address));

test('what is reserved of a prefix is as a look at each of its addresses says', () => {
  fc.assert(
    fc.property(prefixes, prefix, (reserved, block) => {
      const looked = new Reserved(reserved);
      const inside = all(64).filter((address) => contains(block, address));
      const expected = inside.map((address) => isIn(reserved, address));
      const ordinals = looked.ordinalsOf(block);
      expect(inside.map((_, ordinal) => ordinals?.(ordinal) ?? false)).toEqual(expected);
      expect(ordinals === undefined).toBe(!expected.includes(true));
      expect(looked.countIn(block)).toBe(BigInt(expected.filter(Boolean).length));
      expect(looked.covers(block)).toBe(!expected.includes(false));
    }),
  );
});

test('a family knows nothing of the other, and whole families may be reserved', () => {
  const reserved = new Reserved([parseCidr('0.0.0.0/0'), parseCidr('fd00::80/121')]);
  expect(reserved.covers(parseCidr('10.0.0.0/26'))).toBe(true);
  expect(reserved.countIn(parseCidr('fd00::/120'))).toBe(128n);
  expect(reserved.ordinalsOf(parseCidr('fd00::/122'))).toBeUndefined();
});

test('nodes that assign, release and borrow until the pool is full get each address but the reserved ones', async () => {
  await fc.assert(
    fc.asyncProperty(
      prefixes,
      fc.array(fc.record({ node: fc.boolean(), release: fc.boolean(), together: fc.integer({ min: 1, max: 5 }) })),
      fc.boolean(),
      async (reserved, steps, told) => {
        const store = await storeWithPools({ pool: { cidr: '10.0.0.0/27', blockSize: 30 } });
        await store.create({ type: 'IPReservation', name: 'kept' }, reservation('kept', reserved));
        const nodes = [ipamOf(store, 'n1'), ipamOf(store, 'n2')] as const;
        if (told) for (const node of nodes) await feed(node, store);
        const held = new Map<string, Ip>();
        let count = 0;
        const assign = async (at: 0 | 1): Promise<boolean> => {
          const handle = `h${count++}`;
          try {
            const [given] = await nodes[at].assign({ handle, families: [4], attributes: {} }, never);
            if (given === undefined) throw new Error('no address of the family');
            expect([...held.values()]).not.toContain(given.address);
            held.set(handle, given.address);
            return true;
          } catch (thrown) {
            if (thrown instanceof PoolExhaustedError) return false;
            throw thrown;
          }
        };
        for (const { node, release, together } of steps) {
          const at = node ? 0 : 1;
          const [handle] = held.keys();
          if (!release) await Promise.all(Array.from({ length: together }, () => assign(at)));
          else if (handle !== undefined) {
            await nodes[at].release({ handle });
            held.delete(handle);
          }
          for (const address of held.values()) expect(isIn(reserved, address)).toBe(false);
        }
        while (await assign(0));
        const expected = all(32).filter((address) => !isIn(reserved, address));
        expect([...held.values()].sort()).toEqual(expected.sort());
      },
    ),
    { numRuns: 60 },
  );
});

async function feed(ipam: ReturnType<typeof ipamOf>, store: Awaited<ReturnType<typeof storeWithPools>>): Promise<void> {
  const pools = (await store.list('IPPool')).entries;
  const reservations = (await store.list('IPReservation')).entries;
  const events = [...pools, ...reservations].map((entry) => ({ op: 'set' as const, entry }));
  ipam.consume({ op: 'events', events });
  ipam.consume({ op: 'inSync' });
}

test('a reserved address is given to who asks for it by name, and once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 31 }), fc.boolean(), async (last, owned) => {
      const store = await storeWithPools({ pool: { cidr: '10.0.0.0/27', blockSize: 30 } });
      await store.create({ type: 'IPReservation', name: 'all' }, reservation('all', ['10.0.0.0/27']));
      const [ipam, other] = [ipamOf(store, 'n1'), ipamOf(store, 'n2')];
      const address = formatIp(Uint8Array.of(10, 0, 0, last));
      const block = cidrOf(ipBytes(address), 30);
      const wish = { families: [4] as const, attributes: {}, addresses: [address] };
      if (owned) await other.assign({ ...wish, handle: 'neighbour', addresses: [neighbourOf(last)] }, never);
      expect(await ipam.assign({ ...wish, handle: 'a' }, never)).toMatchObject([{ address, block }]);
      await expect(other.assign({ ...wish, handle: 'b' }, never)).rejects.toThrow(
        `${address} cannot be given: it is held`,
      );
      await expect(ipam.assign({ families: [4], attributes: {}, handle: 'c' }, never)).rejects.toThrow(
        PoolExhaustedError,
      );
      await ipam.release({ handle: 'a' });
      expect(await other.assign({ ...wish, handle: 'b' }, never)).toMatchObject([{ address }]);
    }),
    { numRuns: 40 },
  );
});

function reservation(name: string, reservedCIDRs: string[]): Value<'IPReservation'> {
  return { kind: 'IPReservation', apiVersion, metadata: { name }, spec: { reservedCIDRs } };
}

/** Another address of the same block of four. */
function neighbourOf(last: number): Ip {
  return formatIp(Uint8Array.of(10, 0, 0, last ^ 1));
}
