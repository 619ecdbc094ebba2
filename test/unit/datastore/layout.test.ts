import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { decode, encode } from '../../../src/datastore/codec.ts';
import { commonPrefix, etcdKey, etcdPrefix, parseEtcdKey } from '../../../src/datastore/layout.ts';
import type { Key, Type, Value } from '../../../src/datastore/store.ts';
import { parseCidr } from '../../../src/model/address.ts';

const v4 = parseCidr('10.65.3.64/26');
const v6 = parseCidr('fd00:65::40/122');

const keys: [Key, string][] = [
  [
    { type: 'IPPool', name: 'default-ipv4-ippool' },
    '/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool',
  ],
  [{ type: 'Node', name: 'rack7-n3' }, '/calico/resources/v3/projectcalico.org/nodes/rack7-n3'],
  [{ type: 'Profile', name: 'ksa.shop.default' }, '/calico/resources/v3/projectcalico.org/profiles/ksa.shop.default'],
  [{ type: 'BGPConfiguration', name: 'default' }, '/calico/resources/v3/projectcalico.org/bgpconfigurations/default'],
  [
    { type: 'WorkloadEndpoint', namespace: 'shop', name: 'rack7--n3-k8s-cart--7d9-eth0' },
    '/calico/resources/v3/projectcalico.org/workloadendpoints/shop/rack7--n3-k8s-cart--7d9-eth0',
  ],
  [
    { type: 'NetworkPolicy', namespace: 'shop', name: 'knp.default.web' },
    '/calico/resources/v3/projectcalico.org/networkpolicies/shop/knp.default.web',
  ],
  [{ type: 'Block', cidr: v4 }, '/calico/ipam/v2/assignment/ipv4/block/10.65.3.64-26'],
  [{ type: 'Block', cidr: v6 }, '/calico/ipam/v2/assignment/ipv6/block/fd00:65::40-122'],
  [{ type: 'BlockAffinity', host: 'rack7-n3', cidr: v4 }, '/calico/ipam/v2/host/rack7-n3/ipv4/block/10.65.3.64-26'],
  [{ type: 'BlockAffinity', host: 'rack7-n3', cidr: v6 }, '/calico/ipam/v2/host/rack7-n3/ipv6/block/fd00:65::40-122'],
  [{ type: 'Handle', id: 'k8s-pod-network.9c1f' }, '/calico/ipam/v2/handle/k8s-pod-network.9c1f'],
  [{ type: 'Handle', id: 'odd/one%2f' }, '/calico/ipam/v2/handle/odd/one%2f'],
  [{ type: 'IpamConfig' }, '/calico/ipam/v2/config'],
];

describe('keys', () => {
  test.each(keys)('%j is %s, both ways', (key, text) => {
    expect(etcdKey(key)).toBe(text);
    expect(parseEtcdKey(text)).toEqual(key);
    expect(text.startsWith(etcdPrefix(key.type))).toBe(true);
  });

  test.each([
    '/calico/v1/Ready',
    '/calico/felix/v2/no-region/host/rack7-n3/status',
    '/calico/ipam/v2/host/rack7-n3',
    '/calico/ipam/v2/assignment/ipv6/block/10.65.3.64-26',
    '/calico/ipam/v2/assignment/ipv4/block/10.65.3.65-26',
    '/calico/ipam/v2/assignment/ipv4/block/10.65.3.64',
    '/calico/ipam/v2/assignment/ipv4/block/10.65.3.64-33',
    '/calico/ipam/v2/handle/',
    '/calico/resources/v3/projectcalico.org/livemigrations/shop/a',
    '/calico/resources/v3/projectcalico.org/ippools/a/b',
    '/calico/resources/v3/projectcalico.org/workloadendpoints/a',
    '/calico/resources/v3/projectcalico.org/workloadendpoints//a',
    '/elsewhere',
  ])('%s is none of ours', (text) => expect(parseEtcdKey(text)).toBeUndefined());

  test('affinities of services lie apart from those of nodes', () => {
    const key = { type: 'BlockAffinity', host: 'virtual:load-balancer', cidr: v4 } as const;
    const text = '/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.65.3.64-26';
    expect([etcdKey(key), parseEtcdKey(text)]).toEqual([text, key]);
    expect(text.startsWith(etcdPrefix('BlockAffinity', { host: key.host }))).toBe(true);
    expect(text.startsWith(etcdPrefix('BlockAffinity'))).toBe(false);
  });

  test.each<Key>([
    { type: 'IPPool', name: 'a/b' },
    { type: 'IPPool', name: '' },
    { type: 'IPPool', name: 'a', namespace: 'shop' },
    { type: 'WorkloadEndpoint', name: 'a' },
    { type: 'WorkloadEndpoint', name: 'a', namespace: '../x' },
    { type: 'Handle', id: '' },
  ])('%j has no place', (key) => expect(() => etcdKey(key)).toThrow(InputError));

  test('one watch covers what its types share', () => {
    expect(commonPrefix(['Block', 'BlockAffinity'])).toBe('/calico/ipam/v2/');
    expect(commonPrefix(['Block', 'IPPool'])).toBe('/calico/');
    expect(commonPrefix(['IPPool'])).toBe('/calico/resources/v3/projectcalico.org/ippools/');
  });
});

/** Reads a stored text and writes it again. */
function again(key: Key, text: string): string {
  return encode(key, decode(key, text, '7') as Value<Type>).text;
}

describe('values', () => {
  const blockKey = { type: 'Block', cidr: parseCidr('10.65.3.64/30') } as const;
  const block =
    '{"cidr":"10.65.3.64/30","affinity":"host:rack7-n3","affinity_claim_time":"2026-03-02T10:11:12Z",' +
    '"allocations":[0,null,null,null],"unallocated":[1,2,3],' +
    '"attributes":[{"handle_id":"k8s-pod-network.9c1f","secondary":{"namespace":"shop","node":"rack7-n3","pod":"cart-7d9",' +
    '"timestamp":"2026-03-02 10:11:12.3456 +0000 UTC"}}],' +
    '"sequenceNumber":1772446272000000001,"sequenceNumberForAllocation":{"0":1772446272000000000},"deleted":false}';

  test('a block is written as it was read', () => expect(again(blockKey, block)).toBe(block));

  test('an affinity, a handle and the settings are written as they were read', () => {
    const affinity = { type: 'BlockAffinity', host: 'n1', cidr: v4 } as const;
    expect(again(affinity, '{"state":"pending","deleted":false}')).toBe('{"state":"pending","deleted":false}');
    const handle = '{"block":{"10.65.3.64/30":1},"deleted":false}';
    expect(again({ type: 'Handle', id: 'h' }, handle)).toBe(handle);
    const config = '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"ipCooldownSeconds":30}';
    expect(again({ type: 'IpamConfig' }, config)).toBe(config);
  });

  test('an empty affinity, and one without state, count as confirmed', () => {
    const key = { type: 'BlockAffinity', host: 'n1', cidr: v4 } as const;
    expect(decode(key, '', '7')).toEqual({ state: '', deleted: false });
    expect(decode(key, '{}', '7')).toEqual({ state: '', deleted: false });
  });

  test('the old hostAffinity is read as an affinity, and null attributes stay null', () => {
    const old = block
      .replace('"affinity":"host:rack7-n3"', '"hostAffinity":"rack7-n3"')
      .replace('"allocations":[0,', '"allocations":[null,')
      .replace('"unallocated":[1,', '"unallocated":[0,1,')
      .replace(/"attributes":\[.*\],"seq/, '"attributes":null,"seq');
    expect(decode(blockKey, old, '7')).toMatchObject({ affinity: 'host:rack7-n3', attributes: null });
  });

  test.each([
    ['not JSON', '{'],
    ['another block', block.replace('10.65.3.64/30', '10.65.3.68/30')],
    ['too few ordinals', block.replace('[0,null,null,null]', '[0,null]')],
    ['an attribute that is not there', block.replace('[0,null', '[1,null')],
    ['an ordinal free and taken', block.replace('[1,2,3]', '[0,1,2,3]')],
    ['an ordinal free twice', block.replace('[1,2,3]', '[1,2,3,3]')],
    ['a text for a number', block.replace('1772446272000000001', '"many"')],
  ])('a block with %s is refused', (_what, text) => expect(() => decode(blockKey, text, '7')).toThrow(InputError));

  test.each([
    ['null', 'Node/n1: null: expected an object'],
    ['{"spec":{}}', 'Node/n1.kind: missing: expected Node'],
    ['{"kind":"Foo"}', 'Node/n1.kind: "Foo": expected Node'],
  ])('%s is refused by its key, as it does not say whose it is', (text, message) => {
    expect(() => decode({ type: 'Node', name: 'n1' }, text, '7')).toThrow(message);
  });

  test('a resource is refused when it says another name or namespace than its key', () => {
    const text = '{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"b"},"spec":{}}';
    expect(() => decode({ type: 'Node', name: 'a' }, text, '7')).toThrow(/Node\/a.metadata.name: "b"/);
  });

  test('a resource has Calico’s order of fields and no revision', () => {
    const text =
      '{"spec":{"bgp":{"ipv4Address":"192.0.2.1/24"}},"metadata":{"labels":{"a":"b"},"uid":"u","name":"a",' +
      '"creationTimestamp":"2026-03-02T10:11:12Z"},"apiVersion":"projectcalico.org/v3","kind":"Node"}';
    expect(again({ type: 'Node', name: 'a' }, text)).toBe(
      '{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","uid":"u",' +
        '"creationTimestamp":"2026-03-02T10:11:12Z","labels":{"a":"b"}},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24"}}}',
    );
  });
});
