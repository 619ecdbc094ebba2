import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { keyText } from '../../../src/datastore/store.ts';
import { differences, sameEssence } from '../../../src/migrate/compare.ts';
import { type Item, itemOf } from '../../../src/migrate/dump.ts';
import { formatDump, parseDump } from '../../../src/migrate/file.ts';
import { renamedNodes, withKubernetesNames } from '../../../src/migrate/rename.ts';
import { cidrOf, ipBytes, parseIp } from '../../../src/model/address.ts';
import { apiVersion } from '../../../src/model/resource.ts';

/** Texts that YAML and JSON have to quote, and the line between the parts of a file. */
const text = fc.oneof(
  fc.string({ maxLength: 8, unit: 'grapheme' }),
  fc.constantFrom('===', 'a\n===\nb', '---', '- x', 'yes', '1e3', '"', "'", '{', '\u0000', '\u2028', ' x '),
);
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,6}[a-z0-9]$/);
const node = fc.constantFrom('n1', 'n2', 'n3', 'vxlan');
const labels = fc.dictionary(fc.stringMatching(/^[a-z]{1,3}$/), text, { maxKeys: 2 });

const item: fc.Arbitrary<Item> = fc.oneof(
  fc
    .tuple(name, labels, text)
    .map(([id, of, description]) => resource('GlobalNetworkPolicy', id, { selector: 'all()', description }, of)),
  fc.tuple(node, fc.option(node), fc.nat()).map(([id, nodeName, asNumber]) =>
    resource('Node', id, {
      bgp: { asNumber: asNumber + 1 },
      ...(nodeName !== null && { orchRefs: [{ orchestrator: 'k8s', nodeName }] }),
    }),
  ),
  node.map((id) => resource('FelixConfiguration', `node.${id}`, { logSeverityScreen: 'Info' })),
  fc.tuple(node, fc.nat(255)).map(
    ([host, at]): Item => ({
      key: { type: 'BlockAffinity', host, cidr: cidrOf(ipBytes(parseIp(`10.65.${at}.0`)), 30) },
      value: { state: 'confirmed', deleted: false },
    }),
  ),
  fc.tuple(node, fc.nat(255), fc.bigInt({ min: 0n, max: 1n << 62n })).map(([host, at, sequence]): Item => {
    const cidr = cidrOf(ipBytes(parseIp(`10.65.${at}.0`)), 30);
    const value = {
      ...{ cidr, affinity: `host:${host}`, affinity_claim_time: null, deleted: false },
      ...{ allocations: [0, null, null, null], unallocated: [1, 2, 3] },
      attributes: [{ handle_id: `vxlan-v6-tunnel-addr-${host}`, secondary: { node: host } }],
      ...{ sequenceNumber: sequence, sequenceNumberForAllocation: { '0': sequence } },
    };
    return { key: { type: 'Block', cidr }, value };
  }),
  fc.tuple(fc.constantFrom('wireguard-tunnel-addr-', 'ipip-tunnel-addr-'), node).map(
    ([prefix, host]): Item => ({
      key: { type: 'Handle', id: `${prefix}${host}` },
      value: { block: { '10.65.0.0/30': 1 }, deleted: false },
    }),
  ),
);

const dump = fc.uniqueArray(item, { maxLength: 12, selector: ({ key }) => keyText(key) });

function resource(
  type: 'GlobalNetworkPolicy' | 'Node' | 'FelixConfiguration',
  id: string,
  spec: object,
  of = {},
): Item {
  const metadata = { name: id, ...(Object.keys(of).length > 0 && { labels: of }) };
  return itemOf({ type, name: id }, { kind: type, apiVersion, metadata, spec } as Item['value']);
}

test('what is written to a file is read from it', () => {
  fc.assert(
    fc.property(dump, (items) => {
      const { items: read, unknown } = parseDump(formatDump(items), 'dump');
      expect(unknown).toEqual([]);
      expect(differences(items, read, 'etcd')).toEqual([]);
      expect(read).toHaveLength(items.length);
    }),
    { numRuns: 60 },
  );
});

test('any other text is refused with the place of its fault, or read', () => {
  fc.assert(
    fc.property(dump, fc.nat(), fc.nat(40), text, (items, at, length, put) => {
      const whole = formatDump(items);
      const from = at % whole.length;
      try {
        parseDump(whole.slice(0, from) + put + whole.slice(from + length), 'dump');
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
      }
    }),
    { numRuns: 100 },
  );
});

test('differences are none with itself, the same from both sides, and name each object that one side lacks', () => {
  fc.assert(
    fc.property(dump, dump, (a, b) => {
      expect(differences(a, a, 'kubernetes')).toEqual([]);
      const found = differences(a, b, 'etcd');
      const mirrored = differences(b, a, 'etcd');
      expect(mirrored.map(({ object, field }) => `${object} ${field}`)).toEqual(
        found.map(({ object, field }) => `${object} ${field}`),
      );
      const inB = new Map(b.map((each) => [keyText(each.key), each]));
      for (const each of a) {
        const other = inB.get(keyText(each.key));
        const told = found.some(({ object }) => object === keyText(each.key));
        expect(told).toBe(!other || !sameEssence(each, other, 'etcd'));
      }
    }),
  );
});

test("under Kubernetes' names nothing names a node as it was, and renaming is done once", () => {
  fc.assert(
    fc.property(dump, (items) => {
      const names = renamedNodes(items);
      const renamed = withKubernetesNames(items);
      const kept = new Set(names.values());
      const said = renamed.map(({ key, value }) => [key, 'spec' in value ? { ...value, spec: {} } : value]);
      const words = JSON.stringify(said, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
      for (const [old] of names) if (!kept.has(old)) expect(words).not.toMatch(new RegExp(`[":.-]${old}"`));
      if ([...names].every(([old]) => !kept.has(old))) expect(renamedNodes(renamed)).toEqual(new Map());
    }),
  );
});
