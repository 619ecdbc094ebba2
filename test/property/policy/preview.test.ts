import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import type { End } from '../../../src/policy/ends.ts';
import { merged, preview } from '../../../src/policy/preview.ts';
import { answer } from '../../../src/policy/question.ts';
import { calicoEvent, endpointEvent, namespaceEvent } from '../../support/cluster.ts';

/* What a preview lists is what asking every pair before and after would find. */

const log = createLog('test', 'silent');
const pod = (name: string, address: string, where: string): Event =>
  endpointEvent({ name, namespace: 'shop', labels: { app: name }, addresses: [address], ports: [] }, where);
const world: Event[] = [
  namespaceEvent('shop', {}),
  pod('a', '10.0.0.1', 'n1'),
  pod('b', '10.0.0.2', 'n2'),
  pod('c', '10.0.0.3', 'n1'),
  ...['n1', 'n2'].map((name, at) => calicoEvent('Node', { name }, { bgp: { ipv4Address: `192.0.2.${at + 1}/24` } })),
  // Names the ports that are asked, and decides nothing.
  calicoEvent(
    'GlobalNetworkPolicy',
    { name: 'z' },
    { selector: "app == 'a'", order: 9, ingress: [80, 443].map((port) => allow('Log', port)) },
  ),
];

function allow(action: string, port: number) {
  return { action, protocol: 'TCP', destination: { ports: [port] } };
}

const rules = fc.array(fc.record({ action: fc.constantFrom('Allow', 'Deny'), port: fc.constantFrom(80, 443) }), {
  maxLength: 2,
});
const policy = (at: number): fc.Arbitrary<Event> =>
  fc
    .record({
      selector: fc.constantFrom("app == 'b'", "app == 'c'", "node == 'n1'", 'all()'),
      kind: fc.constantFrom('', 'applyOnForward', 'doNotTrack', 'preDNAT'),
      ingress: rules,
      egress: rules,
    })
    .map(({ selector, kind, ingress, egress }) => {
      const written = (list: readonly { action: string; port: number }[]) =>
        list.map(({ action, port }) => allow(action, port));
      return calicoEvent(
        'GlobalNetworkPolicy',
        { name: `p${at}` },
        {
          ...{ selector, order: at, types: kind === 'preDNAT' ? ['Ingress'] : ['Ingress', 'Egress'] },
          ingress: written(ingress),
          ...(kind !== 'preDNAT' && { egress: written(egress) }),
          ...(kind !== '' && { applyOnForward: true, [kind]: true }),
        },
      );
    });
const host = (node: string): fc.Arbitrary<Event> =>
  fc
    .constantFrom({ interfaceName: '*' }, { interfaceName: 'eth0' }, { expectedIPs: ['192.0.2.1'] })
    .chain((spec) =>
      fc
        .constantFrom([], ['projectcalico-default-allow'])
        .map((profiles) => calicoEvent('HostEndpoint', { name: node, labels: { node } }, { node, profiles, ...spec })),
    );
const failsafe = fc
  .constantFrom(22, 80)
  .map((port) =>
    calicoEvent(
      'FelixConfiguration',
      { name: 'default' },
      { failsafeInboundHostPorts: [{ protocol: 'TCP', port }], failsafeOutboundHostPorts: [] },
    ),
  );
const pool = fc
  .constantFrom('Never', 'Always')
  .map((vxlanMode) => calicoEvent('IPPool', { name: 'pool' }, { cidr: '10.0.0.0/16', vxlanMode }));
const object = fc.oneof({ weight: 4, arbitrary: fc.nat(2).chain(policy) }, host('n1'), host('n2'), failsafe, pool);

test('a preview finds what asking every pair before and after finds, host endpoints on the way included', () => {
  let found = 0;
  let atHosts = 0;
  fc.assert(
    fc.property(fc.array(object, { maxLength: 5 }), fc.array(object, { maxLength: 2 }), (there, change) => {
      const before = merged(world, there);
      const after = merged(before, change);
      const told = preview(before, after, log);
      const nodes = ['n1', 'n2'].filter((node) =>
        after.some(
          (event) => event.op === 'set' && event.entry.key.type === 'HostEndpoint' && event.entry.key.name === node,
        ),
      );
      const ends: [string, End][] = [
        ...['a', 'b', 'c'].map((name): [string, End] => [`shop/${name}`, { namespace: 'shop', pod: name }]),
        ...nodes.map((name): [string, End] => [`host:${name}`, { host: name }]),
      ];
      const expected = ends.flatMap(([from, source]) =>
        ends.flatMap(([to, destination]) =>
          from === to
            ? []
            : [80, 443, 1].flatMap((port) => {
                const question = { source, destination, transport: { protocol: 'tcp', port } } as const;
                const [was, will] = [before, after].map((cluster) => answer(cluster, question, log).verdict);
                return was === will ? [] : [`${from} -> ${to} ${port}: ${was} -> ${will}`];
              }),
        ),
      );
      const lines = told
        .filter(({ protocol, port }) => protocol === 'tcp' && [80, 443, 1].includes(port))
        .map(({ from, to, port, before: was, after: will }) => `${from} -> ${to} ${port}: ${was} -> ${will}`);
      expect(lines.sort()).toEqual(expected.sort());
      found += lines.length;
      atHosts += lines.filter((line) => line.includes('host:')).length;
    }),
    { numRuns: 20 },
  );
  expect(found).toBeGreaterThan(5);
  expect(atHosts).toBeGreaterThan(1);
});
