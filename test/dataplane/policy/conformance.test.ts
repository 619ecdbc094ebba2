import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Event } from '../../../src/datastore/store.ts';
import { readClusterPolicy } from '../../../src/model/kubernetes/cluster-policy.ts';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { calicoEvent, calicoPolicyEvent, node, policyEvent, set } from '../../support/cluster.ts';
import type { Policy } from '../../support/oracle.ts';
import {
  baseEvents,
  indexOf,
  outside,
  PolicyKernel,
  plain,
  plainPods,
  podMembers,
} from '../../support/policy-kernel.ts';

/*
 * What the specifications say and engines get wrong, as tables of connections that are made or not, by real packets of both
 * families. In namespace one are pod-0 (app a, port web 80) and pod-1 (app b, web 8080), in two is pod-2 (app a, web 8080).
 */

interface Row {
  readonly title: string;
  readonly objects: readonly Event[];
  /** `from > to protocol port`, by both families. */
  readonly open: readonly string[];
  readonly closed: readonly string[];
  /** Labels of pods besides `app`. */
  readonly labels?: Readonly<Record<string, Record<string, string>>>;
}

const one = (name: string, spec: Policy['spec']) => policyEvent({ name, namespace: 'one', spec });
const calico = (name: string, namespace: string, spec: object) => calicoPolicyEvent(name, namespace, spec);
const global = (name: string, spec: object) => calicoEvent('GlobalNetworkPolicy', { name }, spec);
const cluster = (kind: 'ClusterNetworkPolicy' | 'BaselineAdminNetworkPolicy', name: string, spec: object): Event => {
  const version = kind === 'ClusterNetworkPolicy' ? 'v1alpha2' : 'v1alpha1';
  const apiVersion = `policy.networking.k8s.io/${version}`;
  const { policy } = readClusterPolicy(kind, { kind, apiVersion, metadata: { name }, spec });
  return set({ type: 'GlobalNetworkPolicy', name: policy.metadata.name }, policy);
};
const app = (name: string) => ({ matchLabels: { app: name } });
const allow = { action: 'Allow' };
const everyone = { namespaces: {} };

const rows: readonly Row[] = [
  {
    title: 'rules of egress alone isolate ingress too in Kubernetes; probes of the node and replies pass',
    objects: [one('p', { podSelector: app('a'), egress: [{}] })],
    open: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside UDP 53', 'node > pod-0 TCP 80', 'node > pod-0 ICMP'],
    closed: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 UDP 53', 'pod-1 > pod-0 ICMP'],
  },
  {
    title: "and do not in Calico's own kind",
    objects: [calico('p', 'one', { selector: "app == 'a'", egress: [{ action: 'Deny' }] })],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 ICMP'],
    closed: ['pod-0 > pod-1 TCP 80'],
  },
  {
    title: 'an empty list of rules closes, an empty list of peers opens, and policies add up',
    objects: [
      one('none', { podSelector: {}, policyTypes: ['Ingress'], ingress: [] }),
      one('all', { podSelector: app('b'), ingress: [{ from: [], ports: [{ port: 80 }] }] }),
    ],
    open: ['outside > pod-1 TCP 80', 'pod-0 > outside TCP 80'],
    closed: ['outside > pod-1 TCP 8080', 'pod-1 > pod-0 TCP 80', 'outside > pod-1 ICMP'],
  },
  {
    title: 'an empty port is all of TCP',
    objects: [one('p', { podSelector: app('a'), ingress: [{ ports: [{}] }] })],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 TCP 8080'],
    closed: ['pod-1 > pod-0 UDP 80', 'pod-1 > pod-0 SCTP 80', 'pod-1 > pod-0 ICMP'],
  },
  {
    title: 'a named port is the one of each destination, in its protocol',
    objects: [one('p', { podSelector: {}, ingress: [{ ports: [{ port: 'web' }] }] })],
    open: ['pod-2 > pod-0 TCP 80', 'pod-2 > pod-1 TCP 8080'],
    closed: ['pod-2 > pod-0 TCP 8080', 'pod-2 > pod-1 TCP 80', 'pod-2 > pod-0 UDP 80'],
  },
  {
    title: 'a range of ports, by SCTP',
    objects: [one('p', { podSelector: app('b'), ingress: [{ ports: [{ protocol: 'SCTP', port: 80, endPort: 85 }] }] })],
    open: ['pod-0 > pod-1 SCTP 80', 'outside > pod-1 SCTP 85'],
    closed: ['pod-0 > pod-1 SCTP 53', 'pod-0 > pod-1 TCP 80'],
  },
  {
    title: 'NotIn and != match pods without the label, and nobody else',
    objects: [
      one('p', {
        podSelector: app('a'),
        ingress: [
          { from: [{ podSelector: { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['x'] }] } }] },
        ],
      }),
      calico('q', 'two', { ingress: [{ ...allow, source: { selector: "team != 'x'", namespaceSelector: 'all()' } }] }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-1 > pod-2 UDP 53'],
    closed: ['outside > pod-0 TCP 80', 'outside > pod-2 TCP 80', 'pod-2 > pod-0 TCP 80'],
  },
  {
    title: 'selectors of one peer hold together, those of several apart',
    objects: [
      one('p', {
        podSelector: app('a'),
        ingress: [
          { from: [{ namespaceSelector: { matchLabels: { tier: 'x' } }, podSelector: app('a') }] },
          { from: [{ podSelector: app('b') }], ports: [{ protocol: 'UDP', port: 53 }] },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 UDP 53'],
    closed: ['pod-1 > pod-0 TCP 80', 'pod-2 > pod-0 UDP 53'],
  },
  {
    title: 'the baseline is hidden in the direction that a policy isolates, and in no other',
    objects: [
      cluster('BaselineAdminNetworkPolicy', 'default', {
        subject: everyone,
        ingress: [{ action: 'Deny', from: [everyone] }],
        egress: [{ action: 'Deny', to: [{ networks: ['192.0.2.0/24', 'fd00::8/128'] }] }],
      }),
      one('p', { podSelector: app('a'), policyTypes: ['Ingress'], ingress: [{}] }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-1 TCP 80'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside TCP 80', 'pod-1 > outside UDP 53'],
  },
  {
    title: 'selectors stay in the namespace, and global() reaches global sets',
    objects: [
      calicoEvent(
        'GlobalNetworkSet',
        { name: 's', labels: { kind: 'p' } },
        { nets: ['192.0.2.130/32', 'fd00::8/128'] },
      ),
      calico('p', 'one', {
        selector: "app == 'b'",
        ingress: [
          { ...allow, source: { selector: "app == 'a'" } },
          { ...allow, protocol: 'TCP', source: { selector: "kind == 'p'", namespaceSelector: 'global()' } },
        ],
      }),
      calico('q', 'two', { ingress: [{ ...allow, source: { selector: "kind == 'p'" } }] }),
    ],
    open: ['pod-0 > pod-1 UDP 53', 'outside > pod-1 TCP 80'],
    closed: ['pod-2 > pod-1 UDP 53', 'outside > pod-1 UDP 53', 'outside > pod-2 TCP 80'],
  },
  {
    title: 'policies of Kubernetes stand at order 1000',
    objects: [
      one('p', { podSelector: app('b'), ingress: [{}] }),
      calico('before', 'one', {
        order: 999,
        ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [80] } }],
      }),
      calico('after', 'one', { order: 1001, ingress: [{ action: 'Deny' }] }),
    ],
    open: ['pod-0 > pod-1 TCP 8080', 'outside > pod-1 UDP 53'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-1 > pod-0 TCP 8080'],
  },
  {
    title: 'failsafe ports are for the host itself, and not for what it forwards',
    objects: [
      calicoEvent('HostEndpoint', { name: 'h', labels: { role: 'edge' } }, { node, interfaceName: 'uplink' }),
      global('h', {
        selector: "role == 'edge'",
        applyOnForward: true,
        types: ['Ingress'],
        ingress: [{ action: 'Deny' }],
      }),
    ],
    open: ['outside > host TCP 85', 'pod-0 > outside TCP 85'],
    closed: ['outside > pod-0 TCP 85', 'outside > host TCP 80'],
  },
  {
    title: 'v1alpha2 accepts where v1alpha1 allows, and a field that is not its own widens nothing',
    objects: [
      cluster('ClusterNetworkPolicy', 'a', {
        ...{ tier: 'Admin', priority: 1, subject: everyone },
        ingress: [
          { action: 'Accept', from: [{ pods: { namespaceSelector: {}, podSelector: app('b') } }] },
          { action: 'Accept', from: [everyone], ports: [{ portNumber: { protocol: 'TCP', port: 8080 } }] },
          {
            action: 'Deny',
            from: [everyone],
            protocols: [{ tcp: { destinationPort: { range: { start: 1, end: 9000 } } } }],
          },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-0 > pod-1 UDP 53', 'outside > pod-0 TCP 80'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-0 > pod-1 TCP 8080'],
  },
  {
    title: 'constructor and __proto__ are ordinary keys of labels',
    labels: { 'pod-1': { constructor: 'x' } },
    objects: [
      one('p', {
        podSelector: app('a'),
        ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchLabels: { constructor: 'x' } } }] }],
      }),
      calico('q', 'two', {
        ingress: [{ ...allow, source: { selector: 'has(__proto__) || has(constructor)', namespaceSelector: 'all()' } }],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-1 > pod-2 TCP 80'],
    closed: ['pod-2 > pod-0 TCP 80', 'pod-0 > pod-2 TCP 80'],
  },
  {
    title: 'all addresses but some, though no set can hold /0',
    objects: [
      one('p', {
        podSelector: app('a'),
        ingress: [
          { from: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['192.0.2.128/25', '198.51.100.0/24'] } }] },
          { from: [{ ipBlock: { cidr: '::/0', except: ['fd00::8/125', '2001:db8::/32'] } }] },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-2 > pod-0 ICMP'],
    closed: ['outside > pod-0 TCP 80', 'outside > pod-0 ICMP'],
  },
  {
    title: 'tiers: pass leads on, the end of a tier denies, and a staged policy decides nothing',
    objects: [
      calicoEvent('Tier', { name: 'first' }, { order: 1 }),
      global('first', {
        tier: 'first',
        selector: "app == 'b'",
        types: ['Ingress'],
        ingress: [{ action: 'Log' }, { action: 'Pass', protocol: 'TCP' }],
      }),
      calico('second', 'one', {
        selector: "app == 'b'",
        ingress: [{ ...allow, destination: { ports: [80] }, protocol: 'TCP' }],
      }),
      calicoEvent('StagedGlobalNetworkPolicy', { name: 'no' }, { tier: 'first', ingress: [{ action: 'Deny' }] }),
    ],
    open: ['pod-0 > pod-1 TCP 80', 'pod-1 > pod-0 UDP 53'],
    closed: ['pod-0 > pod-1 TCP 8080', 'pod-0 > pod-1 UDP 53', 'pod-0 > pod-1 ICMP'],
  },
];

const options = { ...defaultRenderOptions, failsafeInbound: [{ protocol: 'tcp' as const, port: 85 }] };
const parties = new Map([...podMembers, outside].map(({ name, addresses }) => [name, addresses]));

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend);
  beforeAll(() => kernel.network.start());
  afterAll(() => kernel.network.stop());

  /** The lines that get an answer by every family. */
  async function reached(lines: readonly string[], timeoutMs: number): Promise<string[]> {
    const answers = await Promise.all(
      lines.map(async (line) => {
        const [, from = '', to = '', protocol = '', port] = /^(\S+) > (\S+) (\S+)(?: (\d+))?$/.exec(line) ?? [];
        // The host answers by the gateway's address, which IPv6 has on its links only.
        const addresses = to === 'host' ? ['169.254.1.1'] : (parties.get(to) ?? expect.fail(line));
        const answered = await Promise.all(
          addresses.map((address) =>
            protocol === 'ICMP'
              ? kernel.network.ping(from, address, timeoutMs / 1000)
              : kernel.network.probe(from, { protocol: protocol as 'TCP', address, port: Number(port), timeoutMs }),
          ),
        );
        return { line, answered };
      }),
    );
    return answers.flatMap(({ line, answered }) =>
      answered.every((each) => each === answered[0]) ? (answered[0] ? [line] : []) : [`${line}: by one family only`],
    );
  }

  test.each(rows)('$title', async ({ objects, open, closed, labels = {} }) => {
    const pods = plainPods.map((pod) => ({
      ...pod,
      labels: { ...pod.labels, ...labels[pod.name], ...(pod.name === 'pod-2' && { team: 'x' }) },
    }));
    const index = indexOf([...baseEvents({ ...plain, pods }), ...objects]);
    await kernel.load(index.snapshot(), options);
    await kernel.network.onNode('conntrack', '-F');
    const [made, refused] = await Promise.all([reached(open, 10_000), reached(closed, 300)]);
    expect(made).toEqual(open);
    expect(refused).toEqual([]);
  });
});
