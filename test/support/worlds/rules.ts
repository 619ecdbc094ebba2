import fc from 'fast-check';
import type { Event } from '../../../src/datastore/store.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { endpointKey, namespaceEvent, node, set } from '../cluster.ts';
import type { Chosen, End, FieldPacket, FieldPod, FieldRule } from '../rule-oracle.ts';

/** Rules of Calico's own kind with all their fields, and three pods that they are about. */

const namespaces = { one: { team: 'x' }, two: { team: 'y' } };
const pods: readonly FieldPod[] = [
  ['one', 'a', { app: 'a' }, 80],
  ['one', 'b', { app: 'b', constructor: 'x' }, 8080],
  ['two', 'a', {}, 80],
].map(([namespace, account, labels, port], i) => ({
  name: `pod-${i}`,
  namespace: String(namespace),
  account: String(account),
  labels: labels as Record<string, string>,
  addresses: [`10.65.0.${i + 1}`, `fd00::${i + 1}`],
  ports: [
    { name: 'web', protocol: 'TCP', port: Number(port) },
    { name: 'web', protocol: 'UDP', port: 53 },
  ],
}));
export const fieldWorld = { pods, namespaces };
const outside = ['192.0.2.1', 'fd00::99'];

const labelled = (text: string, holds: Chosen['holds']): Chosen => ({ text, holds });
const selector = fc.constantFrom(
  labelled("app == 'a'", ({ app }) => app === 'a'),
  labelled("app != 'a'", ({ app }) => app !== 'a'),
  labelled('has(constructor)', (labels) => Object.hasOwn(labels, 'constructor')),
  labelled("app not in {'a', 'c'} && !has(other)", ({ app }) => app !== 'a' && app !== 'c'),
  labelled('all()', () => true),
);
const namespaceSelector = fc.constantFrom(
  labelled("team == 'x'", ({ team }) => team === 'x'),
  labelled("team != 'x'", ({ team }) => team !== 'x'),
  labelled('all()', () => true),
);
const net = fc.constantFrom(
  '10.65.0.0/31',
  '10.65.0.2/32',
  '0.0.0.0/0',
  '192.0.2.0/24',
  'fd00::/126',
  'fd00::2/128',
  '::/0',
);
const nets = fc.uniqueArray(net, { minLength: 1, maxLength: 3 });
const port = fc.constantFrom<number | string>(80, 53, '80:90', 8080, 'web', 'other');
const ports = fc.uniqueArray(port, { minLength: 1, maxLength: 3 });
const sparse = <T extends object>(
  shape: { [K in keyof T]: fc.Arbitrary<T[K]> },
  most: number,
): fc.Arbitrary<Partial<T>> =>
  fc
    .tuple(fc.record(shape), fc.subarray(Object.keys(shape), { maxLength: most }))
    .map(([all, keys]) => Object.fromEntries(Object.entries(all).filter(([key]) => keys.includes(key))) as Partial<T>);
const accounts = fc.subarray(['a', 'b'], { minLength: 1 });
const common = { nets, notNets: nets, selector, notSelector: selector, namespaceSelector, accounts };
const end: fc.Arbitrary<End> = sparse(common, 2);
const portedEnd: fc.Arbitrary<End> = sparse({ ...common, ports, notPorts: ports }, 3);
const icmp = fc.record({ type: fc.constantFrom(8, 128), code: fc.constantFrom(0, 1) }, { requiredKeys: ['type'] });
const action = fc.constantFrom('Allow' as const, 'Deny' as const);
const ends = (of: fc.Arbitrary<End>) => ({ source: of, destination: of });
const rule: fc.Arbitrary<FieldRule> = fc.oneof(
  fc.record({ action, ipVersion: fc.constantFrom(4 as const, 6 as const), ...ends(end) }, { requiredKeys: ['action'] }),
  fc.record(
    { action, notProtocol: fc.constantFrom<string | number>('TCP', 17, 'ICMP', 47), ...ends(end) },
    { requiredKeys: ['action'] },
  ),
  fc.record(
    { action, protocol: fc.constantFrom<string | number>('TCP', 6, 'UDP', 17, 'SCTP'), ...ends(portedEnd) },
    { requiredKeys: ['action', 'protocol'] },
  ),
  fc.record(
    { action, protocol: fc.constantFrom('ICMP', 'ICMPv6'), icmp, notICMP: icmp, ...ends(end) },
    { requiredKeys: ['action', 'protocol'] },
  ),
);

export const fieldRules = fc.array(rule, { minLength: 1, maxLength: 3 });

export const fieldPackets: readonly FieldPacket[] = [0, 1].flatMap((family) => {
  const addresses = [...pods.map((pod) => pod.addresses[family] ?? ''), outside[family] ?? ''];
  const layers = [
    ...[6, 17, 132].flatMap((protocol) =>
      [53, 80, 8080].map((destinationPort) => ({
        protocol,
        sourcePort: destinationPort === 53 ? 80 : 40_000,
        destinationPort,
      })),
    ),
    ...[0, 1].map((code) =>
      family === 0 ? { protocol: 1, icmp: { type: 8, code } } : { protocol: 58, icmp: { type: 128, code } },
    ),
    { protocol: 47 },
  ];
  return addresses.flatMap((source) =>
    addresses
      .filter((each) => each !== source)
      .flatMap((destination) => layers.map((layer) => ({ source, destination, ...layer }))),
  );
});

/** A rule as its author writes it. */
export function fieldSpec({ source, destination, ...more }: FieldRule): object {
  const written = ({ selector: a, notSelector: b, namespaceSelector: c, accounts: names, ...rest }: End) => ({
    ...rest,
    ...(a && { selector: a.text }),
    ...(b && { notSelector: b.text }),
    ...(c && { namespaceSelector: c.text }),
    ...(names && { serviceAccounts: { names } }),
  });
  return {
    ...more,
    ...(source && { source: written(source) }),
    ...(destination && { destination: written(destination) }),
  };
}

function podEvent(pod: FieldPod): Event {
  const key = endpointKey(pod);
  const value = parseResource('WorkloadEndpoint', {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: key.name, namespace: pod.namespace, labels: pod.labels },
    spec: {
      orchestrator: 'k8s',
      node,
      endpoint: 'eth0',
      pod: pod.name,
      serviceAccountName: pod.account,
      ipNetworks: pod.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`),
      profiles: [`kns.${pod.namespace}`],
      interfaceName: `cali${pod.name}`,
      ports: pod.ports,
    },
  });
  return set(key, value);
}

/** The namespaces and pods. */
export const fieldEvents: readonly Event[] = [
  ...Object.entries(namespaces).map(([name, labels]) => namespaceEvent(name, labels)),
  ...pods.map(podEvent),
];
