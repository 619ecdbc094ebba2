import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { parseIp } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { ruleWarnings } from '../../../src/policy/warnings.ts';
import { calicoPolicyEvent, endpointKey, namespaceEvent, node, set } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import {
  type Chosen,
  type End,
  type FieldPacket,
  type FieldPod,
  type FieldRule,
  ruleMatches,
} from '../../support/rule-oracle.ts';

const log = createLog('test', 'silent');
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
const world = { pods, namespaces };
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

const packets: readonly FieldPacket[] = [0, 1].flatMap((family) => {
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

function specOf({ source, destination, ...more }: FieldRule): object {
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

function podEvent(pod: FieldPod) {
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

test(
  'every field of a rule restricts it as its reference says, in both directions, and no rule decides that is said to match nothing',
  worldsTimeout,
  () => {
    const verdicts = { allow: 0, deny: 0 };
    let warned = 0;
    const base = [
      ...Object.entries(namespaces).map(([name, labels]) => namespaceEvent(name, labels)),
      ...pods.map(podEvent),
    ];
    fc.assert(
      fc.property(
        fc.array(rule, { minLength: 1, maxLength: 3 }),
        fc.constantFrom('ingress' as const, 'egress' as const),
        (rules, direction) => {
          const index = new PolicyIndex(node, log);
          for (const event of base) index.apply(event);
          const types = [direction === 'ingress' ? 'Ingress' : 'Egress'];
          index.apply(calicoPolicyEvent('p', 'one', { types, [direction]: rules.map(specOf) }));
          expect(index.problems()).toEqual([]);
          const policy = index.snapshot();
          const idle = ruleWarnings(policy.policies.get('one/p') ?? expect.fail('no policy'), false);
          warned += idle.length;
          for (const packet of packets) {
            const own = direction === 'ingress' ? packet.destination : packet.source;
            const pod = pods.find(({ namespace, addresses }) => namespace === 'one' && addresses.includes(own));
            if (!pod) continue;
            const decided = rules.find((each) => ruleMatches(world, 'one', each, packet));
            const expected = decided?.action === 'Allow' ? 'allow' : 'deny';
            const [source, destination] = [parseIp(packet.source), parseIp(packet.destination)];
            const endpoint = `WorkloadEndpoint/${pod.namespace}/${endpointKey(pod).name}`;
            const found = evaluate(policy, { ...packet, source, destination, direction, endpoint });
            verdicts[expected]++;
            if (found.reason.by === 'policy')
              expect(idle.map(({ field }) => field)).not.toContain(`${direction}[${found.reason.rule}]`);
            if (found.verdict !== expected)
              expect({ packet, direction, found }).toEqual({ packet, direction, expected });
          }
        },
      ),
      { numRuns: worlds(200) },
    );
    expect(Math.min(verdicts.allow, verdicts.deny)).toBeGreaterThan(1500);
    expect(warned).toBeGreaterThan(20);
  },
);
