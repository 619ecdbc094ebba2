import { calicoEvent, sliceEvent } from '../cluster.ts';
import { allow, app, calico, deny, global, kubernetes, type Row, serviceAccount, tcp } from './row.ts';

/** projectcalico.org/v3. */
export const calicoRows: readonly Row[] = [
  {
    title: "and do not in Calico's own kind",
    objects: [calico('p', 'one', { selector: "app == 'a'", egress: [deny] })],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 ICMP'],
    closed: ['pod-0 > pod-1 TCP 80'],
  },
  {
    title: 'NotIn and != match pods without the label, and nobody else',
    objects: [
      kubernetes('p', {
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
      kubernetes('p', { podSelector: app('b'), ingress: [{}] }),
      calico('before', 'one', {
        order: 999,
        ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [80] } }],
      }),
      calico('after', 'one', { order: 1001, ingress: [deny] }),
    ],
    open: ['pod-0 > pod-1 TCP 8080', 'outside > pod-1 UDP 53'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-1 > pod-0 TCP 8080'],
  },
  {
    title: 'constructor and __proto__ are ordinary keys of labels',
    pods: { 'pod-1': { labels: { app: 'b', constructor: 'x' } } },
    objects: [
      kubernetes('p', {
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
      calicoEvent('StagedGlobalNetworkPolicy', { name: 'no' }, { tier: 'first', ingress: [deny] }),
    ],
    open: ['pod-0 > pod-1 TCP 80', 'pod-1 > pod-0 UDP 53'],
    closed: ['pod-0 > pod-1 TCP 8080', 'pod-0 > pod-1 UDP 53', 'pod-0 > pod-1 ICMP'],
  },
  {
    title: 'protocols by number and name, and all but one',
    objects: [
      calico('p', 'one', {
        selector: "app == 'a'",
        ingress: [
          { ...allow, protocol: 17, destination: { ports: [53] } },
          { ...allow, protocol: 47 },
          { ...allow, protocol: 'SCTP', destination: { ports: ['80:85'], notPorts: [81] } },
        ],
      }),
      calico('q', 'two', { ingress: [{ ...allow, notProtocol: 'TCP' }] }),
    ],
    open: [
      'pod-1 > pod-0 UDP 53',
      'pod-1 > pod-0 GRE',
      'pod-1 > pod-0 SCTP 85',
      'pod-1 > pod-2 ICMP',
      'pod-1 > pod-2 UDP 1',
    ],
    closed: ['pod-1 > pod-0 TCP 53', 'pod-1 > pod-0 ICMP', 'pod-1 > pod-0 SCTP 81', 'pod-1 > pod-2 TCP 80'],
  },
  {
    title: 'types and codes of ICMP and ICMPv6, and their negation',
    objects: [
      calico('p', 'one', {
        selector: "app == 'a'",
        ingress: [
          { ...allow, protocol: 'ICMP', icmp: { type: 8, code: 0 } },
          { ...allow, protocol: 'ICMPv6', icmp: { type: 128, code: 0 } },
        ],
      }),
      calico('q', 'two', {
        ingress: [
          { ...allow, protocol: 'ICMP', notICMP: { type: 8, code: 0 } },
          { ...allow, protocol: 'ICMPv6', notICMP: { type: 128, code: 0 } },
        ],
      }),
      calico('r', 'one', {
        selector: "app == 'b'",
        ingress: [
          { ...allow, protocol: 'ICMP', icmp: { type: 8 }, source: { namespaceSelector: "tier == 'x'" } },
          { ...allow, ipVersion: 6, protocol: 'ICMPv6', source: { selector: "app == 'a'" } },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 ICMP', 'pod-1 > pod-2 ICMP/1', 'pod-0 > pod-1 ICMP/1', 'pod-0 > pod-1 ICMP'],
    closed: ['pod-1 > pod-0 ICMP/1', 'pod-1 > pod-2 ICMP', 'pod-2 > pod-1 ICMP', 'pod-1 > pod-0 TCP 80'],
  },
  {
    title: 'prefixes and ports at both ends, and their negations',
    objects: [
      calico('p', 'one', {
        selector: "app == 'a'",
        ingress: [
          { ...deny, source: { notNets: ['10.65.0.0/16', 'fd00::/64'] } },
          {
            ...allow,
            protocol: 'TCP',
            source: {
              nets: ['10.65.0.0/29', 'fd00::/125'],
              notNets: ['10.65.0.3/32', 'fd00::3/128'],
              ports: ['40000:40010'],
            },
            destination: { ports: ['web', 53], notPorts: [53] },
          },
          { ...allow, protocol: 'UDP', source: { notPorts: [40000] } },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'node > pod-0 TCP 53'],
    closed: ['pod-2 > pod-0 TCP 80', 'outside > pod-0 TCP 80', 'pod-1 > pod-0 TCP 53', 'pod-1 > pod-0 UDP 53'],
  },
  {
    title: 'the whole language of selectors',
    objects: [
      calico('p', 'one', {
        selector: "app == 'a' && !(has(team) || app not in {'a', 'c'})",
        ingress: [
          {
            ...allow,
            ...tcp(80),
            source: {
              selector: "(app contains 'b' && app starts with 'b' && app ends with \"b\") || team in {'x', 'y'}",
              namespaceSelector: 'all()',
            },
          },
          { ...allow, ...tcp(53), source: { selector: "app != 'a' && has(app)", notSelector: "team != 'x'" } },
        ],
      }),
      calico('q', 'two', {
        selector: "! app == 'b' && app in {'a'}",
        ingress: [{ ...allow, source: { namespaceSelector: "tier == 'x' && projectcalico.org/name != 'two'" } }],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-2 > pod-0 TCP 80', 'pod-0 > pod-2 UDP 53', 'pod-0 > pod-1 UDP 53'],
    closed: ['outside > pod-0 TCP 80', 'pod-1 > pod-0 TCP 53', 'pod-1 > pod-0 UDP 80', 'outside > pod-2 UDP 53'],
  },
  {
    title: 'labels of the namespace and of the service account are inherited, and accounts have names',
    pods: { 'pod-0': { account: 'till' }, 'pod-1': { account: 'red' }, 'pod-2': { account: 'red' } },
    objects: [
      serviceAccount('one', 'red', { team: 'red' }),
      serviceAccount('two', 'red', { team: 'blue' }),
      serviceAccount('one', 'till', {}),
      global('g', {
        serviceAccountSelector: "team == 'blue'",
        types: ['Ingress'],
        ingress: [{ ...allow, source: { selector: "pcsa.team == 'red' && pcns.tier == 'x'" } }],
      }),
      calico('p', 'one', {
        serviceAccountSelector: '!has(team)',
        ingress: [
          { ...allow, ...tcp(80), source: { serviceAccounts: { names: ['red'] } } },
          {
            ...allow,
            ...tcp(8080),
            source: { serviceAccounts: { selector: "team == 'blue'" }, namespaceSelector: 'all()' },
          },
        ],
      }),
    ],
    open: ['pod-1 > pod-2 UDP 53', 'pod-1 > pod-0 TCP 80', 'pod-2 > pod-0 TCP 8080', 'pod-0 > pod-1 TCP 80'],
    closed: ['pod-0 > pod-2 UDP 53', 'outside > pod-2 TCP 80', 'pod-2 > pod-0 TCP 80', 'pod-1 > pod-0 TCP 8080'],
  },
  {
    title: 'sets of networks: of a namespace there, with its labels, and of all addresses everywhere',
    objects: [
      calicoEvent(
        'NetworkSet',
        { name: 's', namespace: 'one', labels: { kind: 'near' } },
        { nets: ['192.0.2.128/25', 'fd00::8/128'] },
      ),
      calicoEvent('GlobalNetworkSet', { name: 'w', labels: { kind: 'world' } }, { nets: ['0.0.0.0/0', '::/0'] }),
      calico('p', 'one', {
        selector: "app == 'a'",
        ingress: [{ ...allow, ...tcp(80), source: { selector: "kind == 'near' && pcns.tier == 'x'" } }],
      }),
      calico('q', 'one', {
        selector: "app == 'b'",
        ingress: [
          { ...allow, ...tcp(80), source: { selector: "kind == 'world'", namespaceSelector: 'global()' } },
          { ...allow, protocol: 'UDP', source: { selector: "kind == 'world'" } },
        ],
      }),
      calico('r', 'two', {
        ingress: [
          { ...allow, ...tcp(80), source: { selector: "kind == 'near'" } },
          { ...allow, ...tcp(85), source: { selector: "kind == 'near'", namespaceSelector: "tier == 'x'" } },
        ],
      }),
    ],
    open: ['outside > pod-0 TCP 80', 'outside > pod-1 TCP 80', 'pod-2 > pod-1 TCP 80', 'outside > pod-2 TCP 85'],
    closed: ['pod-1 > pod-0 TCP 80', 'outside > pod-1 UDP 53', 'outside > pod-2 TCP 80', 'pod-0 > pod-2 TCP 85'],
  },
  {
    title: 'services: their endpoints from any port, and their ports on the way there',
    objects: [
      sliceEvent('one', 'web', ['10.65.0.1', '192.0.2.130'], [{ port: 80 }, { protocol: 'SCTP', port: 85 }], 'web-4'),
      sliceEvent('one', 'web', ['fd00::1', 'fd00::8'], [{ port: 80 }, { protocol: 'SCTP', port: 85 }], 'web-6'),
      calico('out', 'one', {
        selector: "app == 'b'",
        egress: [{ ...allow, destination: { services: { name: 'web' } } }],
      }),
      calico('in', 'two', { ingress: [{ ...allow, source: { services: { name: 'web', namespace: 'one' } } }] }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-1 > outside SCTP 85', 'outside > pod-2 UDP 1', 'pod-0 > pod-2 ICMP'],
    closed: ['pod-1 > pod-0 TCP 85', 'pod-1 > outside UDP 80', 'pod-1 > pod-2 TCP 80'],
  },
  {
    title: 'the order decides, then the name, and who has none comes last',
    objects: [
      calico('a', 'one', {
        selector: "app == 'a'",
        ingress: [
          { ...deny, ...tcp(80, 53) },
          { ...deny, ...tcp(8080) },
        ],
      }),
      calico('b', 'one', {
        order: 2,
        selector: "app == 'a'",
        ingress: [
          { ...deny, ...tcp(53) },
          { ...allow, ...tcp(80) },
        ],
      }),
      calico('c', 'one', { order: 1.5, selector: "app == 'a'", ingress: [{ ...allow, ...tcp(85) }] }),
      calico('d', 'one', {
        order: 2,
        selector: "app == 'a'",
        ingress: [
          { ...allow, ...tcp(53) },
          { ...deny, ...tcp(85) },
        ],
      }),
      global('z', { order: -1, selector: "app == 'a'", types: ['Ingress'], ingress: [{ ...allow, ...tcp(86) }] }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'pod-1 > pod-0 TCP 85', 'pod-1 > pod-0 TCP 86'],
    closed: ['pod-1 > pod-0 TCP 53', 'pod-1 > pod-0 TCP 8080', 'pod-1 > pod-0 UDP 53'],
  },
  {
    title: 'what passes all tiers is for the profiles, and staged policies of every kind decide nothing',
    objects: [
      calicoEvent('Tier', { name: 'watch' }, { order: 1, defaultAction: 'Pass' }),
      calicoEvent('Tier', { name: 'last' }, { order: 2_000_000 }),
      global('w', { tier: 'watch', types: ['Ingress'], ingress: [{ action: 'Log' }, { ...deny, ...tcp(85) }] }),
      global('l', { tier: 'last', types: ['Ingress'], ingress: [{ action: 'Pass' }] }),
      calicoEvent(
        'Profile',
        { name: 'kns.two' },
        {
          ingress: [
            { ...deny, ...tcp(80) },
            { ...allow, source: { notNets: ['192.0.2.0/24'] } },
          ],
          egress: [allow],
        },
      ),
      calicoEvent('StagedNetworkPolicy', { name: 's', namespace: 'two' }, { ingress: [deny] }),
      calicoEvent('StagedKubernetesNetworkPolicy', { name: 's', namespace: 'two' }, { podSelector: {} }),
      calicoEvent('StagedGlobalNetworkPolicy', { name: 's' }, { ingress: [deny] }),
    ],
    open: ['pod-0 > pod-2 UDP 53', 'pod-2 > pod-0 TCP 80', 'fd00::8 > pod-2 ICMP', 'outside > pod-0 TCP 80'],
    closed: ['pod-0 > pod-2 TCP 80', '192.0.2.130 > pod-2 ICMP', 'outside > pod-0 TCP 85', 'pod-0 > pod-2 TCP 85'],
  },
];
