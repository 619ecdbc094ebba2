import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { newBlock } from '../../../src/ipam/block.ts';
import { attachmentKey, type Facts, type Pair, type Unfit } from '../../../src/migrate/host-local/facts.ts';
import { parseAttachment, parseReservation } from '../../../src/migrate/host-local/files.ts';
import { planOf } from '../../../src/migrate/host-local/plan.ts';
import { withAddress } from '../../../src/migrate/host-local/take.ts';
import { cidrParts, contains, type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import type { Block } from '../../../src/model/ipam.ts';

const podCidr = parseCidr('10.244.9.0/24');
const blockCidrs = ['10.244.9.0/26', '10.244.9.64/26', '10.244.9.128/26', '10.244.9.192/26'].map((text) =>
  parseCidr(text),
);

interface Pod {
  readonly id: string;
  readonly address: Ip;
  readonly known: boolean;
  readonly fit: boolean;
}

const pod: fc.Arbitrary<Pod> = fc.record({
  id: fc.stringMatching(/^[a-f0-9]{4}$/),
  address: fc.tuple(fc.boolean(), fc.nat(255)).map(([in9, last]) => parseIp(`10.244.${in9 ? 9 : 8}.${last}`)),
  known: fc.boolean(),
  fit: fc.boolean(),
});

const pods = fc.uniqueArray(pod, {
  maxLength: 40,
  comparator: (a, b) => a.id === b.id || a.address === b.address,
});

const owners = fc.array(fc.constantFrom('host:n9', 'host:other', null, undefined), { minLength: 4, maxLength: 4 });

function factsOf(all: readonly Pod[], of: readonly (string | null | undefined)[] = []): Facts {
  const blocks = blockCidrs.flatMap((cidr, at): Block[] => {
    const affinity = of[at];
    return affinity === undefined ? [] : [{ ...newBlock(cidr, 'n9', new Date(0)), affinity }];
  });
  const pairs = new Map<string, Pair | Unfit>(
    all.map(({ id, address, fit }) => [
      attachmentKey({ containerId: id, ifName: 'eth0' }),
      fit
        ? { hostDevice: `veth${id}`, hostMac: '', podMac: '', podAddresses: [`${address}/24`], podRoutes: [] }
        : { problem: 'no veth' },
    ]),
  );
  return {
    ...{ node: 'n9', interfacePrefix: 'cali', podCidrs: [podCidr], labels: { 'kubernetes.io/hostname': 'n9' } },
    ...{ pools: [], blocks, pairs, faults: [] },
    reservations: all.map(({ id, address }) => ({ network: 'cbr0', address, containerId: id, ifName: 'eth0' })),
    attachments: all.flatMap(({ id, known }) => {
      const attachment = { network: 'cbr0', containerId: id, ifName: 'eth0', netns: `/run/netns/${id}` };
      return known ? [{ ...attachment, namespace: 'shop', pod: `p${id}` }] : [];
    }),
    hostAddresses: [{ device: 'cni0', cidr: '10.244.9.1/24', address: parseIp('10.244.9.1') }],
    configuration: { file: '05-margay.conflist', network: 'k8s-pod-network', types: ['margay'] },
  };
}

test('every address of the podCIDR is held once, and its pod is taken over or must be restarted', () => {
  fc.assert(
    fc.property(pods, (all) => {
      const inside = all.filter(({ address }) => contains(podCidr, address));
      const plan = planOf(factsOf(all));
      const held = plan.addresses.map(({ address }) => address);
      for (const { address, known, fit } of inside) {
        expect(held).toContain(address);
        const taken = plan.pods.filter(({ addresses }) => addresses.includes(address));
        const restarted = plan.restarts.filter(({ addresses }) => addresses.includes(address));
        expect([taken.length, restarted.length]).toEqual(known && fit ? [1, 0] : [0, 1]);
      }
      expect(held.filter((address) => !inside.some((one) => one.address === address)).sort()).toEqual(
        ['10.244.9.1', '10.244.9.255'].filter((text) => !inside.some(({ address }) => address === text)),
      );
      for (const { address, block } of plan.addresses) {
        expect(contains(block, address) && contains(podCidr, block)).toBe(true);
        expect(plan.blocks.map(({ cidr }) => cidr)).toContain(block);
      }
      expect(new Set(plan.pods.map(({ device }) => device)).size).toBe(plan.pods.length);
    }),
  );
});

test('nothing stands in the way but what belongs to others or is held twice', () => {
  fc.assert(
    fc.property(pods, owners, (all, of) => {
      const { addresses, obstacles, blocks } = planOf(factsOf(all, of));
      const foreign = blocks.filter(({ cidr }) => {
        const owner = of[blockCidrs.indexOf(cidr)];
        return owner !== undefined && owner !== 'host:n9';
      });
      const twice = addresses.length - new Set(addresses.map(({ address }) => address)).size;
      expect(obstacles).toHaveLength(foreign.length + twice);
    }),
  );
});

test('what a first apply entered hinders no second one, and no address is given out twice', () => {
  fc.assert(
    fc.property(pods, (all) => {
      const facts = factsOf(all, ['host:n9', 'host:n9', 'host:n9', 'host:n9']);
      const first = planOf(facts);
      fc.pre(first.obstacles.length === 0);
      let blocks = facts.blocks;
      for (const { address, block, handle } of first.addresses)
        blocks = blocks.map((each) => (each.cidr === block ? withAddress(each, address, { handle_id: handle }) : each));
      expect(planOf({ ...facts, blocks })).toMatchObject({ obstacles: [], addresses: first.addresses });
      for (const block of blocks) {
        const taken = block.allocations.flatMap((index, ordinal) => (index === null ? [] : [ordinal]));
        expect([...taken, ...block.unallocated].sort((a, b) => a - b)).toEqual(block.allocations.map((_, at) => at));
        expect(taken).toHaveLength(first.addresses.filter((one) => one.block === block.cidr).length);
        expect(cidrParts(block.cidr).length).toBe(26);
      }
    }),
  );
});

test('files of others are understood or refused, never a crash', () => {
  const line = fc.oneof(fc.stringMatching(/^[a-f0-9]{8}$/), fc.string(), fc.constantFrom('eth0', '', '\u0000', '../x'));
  fc.assert(
    fc.property(fc.oneof(fc.constantFrom('10.244.9.5', 'fd00::5'), fc.string()), fc.array(line), (file, lines) => {
      try {
        const { containerId, ifName } = parseReservation('cbr0', file, lines.join('\r\n'), 'file');
        expect(containerId).toMatch(/^[A-Za-z0-9]/);
        expect(ifName ?? 'eth0').not.toContain('/');
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
      }
    }),
  );
  fc.assert(fc.property(fc.oneof(fc.json(), fc.string()), (text) => void parseAttachment(text)));
});
