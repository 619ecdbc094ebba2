import { calicoEvent } from '../cluster.ts';
import { app, kubernetes, moreAddresses, type Row } from './row.ts';

/** networking.k8s.io/v1 NetworkPolicy. */
export const kubernetesRows: readonly Row[] = [
  {
    title: 'rules of egress alone isolate ingress too in Kubernetes, and probes of the node pass',
    objects: [kubernetes('p', { podSelector: app('a'), egress: [{}] })],
    open: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside UDP 53', 'node > pod-0 TCP 80', 'node > pod-0 ICMP'],
    closed: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 UDP 53', 'pod-1 > pod-0 ICMP'],
  },
  {
    title: 'an empty list of rules closes, an empty list of peers opens, and policies add up',
    objects: [
      kubernetes('none', { podSelector: {}, policyTypes: ['Ingress'], ingress: [] }),
      kubernetes('all', { podSelector: app('b'), ingress: [{ from: [], ports: [{ port: 80 }] }] }),
    ],
    open: ['outside > pod-1 TCP 80', 'pod-0 > outside TCP 80'],
    closed: ['outside > pod-1 TCP 8080', 'pod-1 > pod-0 TCP 80', 'outside > pod-1 ICMP'],
  },
  {
    title: 'an empty port is all of TCP',
    objects: [kubernetes('p', { podSelector: app('a'), ingress: [{ ports: [{}] }] })],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 TCP 8080'],
    closed: ['pod-1 > pod-0 UDP 80', 'pod-1 > pod-0 SCTP 80', 'pod-1 > pod-0 ICMP'],
  },
  {
    title: 'a named port is the one of each destination, in its protocol',
    objects: [kubernetes('p', { podSelector: {}, ingress: [{ ports: [{ port: 'web' }] }] })],
    open: ['pod-2 > pod-0 TCP 80', 'pod-2 > pod-1 TCP 8080'],
    closed: ['pod-2 > pod-0 TCP 8080', 'pod-2 > pod-1 TCP 80', 'pod-2 > pod-0 UDP 80'],
  },
  {
    title: 'a range of ports, by SCTP',
    objects: [
      kubernetes('p', { podSelector: app('b'), ingress: [{ ports: [{ protocol: 'SCTP', port: 80, endPort: 85 }] }] }),
    ],
    open: ['pod-0 > pod-1 SCTP 80', 'outside > pod-1 SCTP 85'],
    closed: ['pod-0 > pod-1 SCTP 53', 'pod-0 > pod-1 TCP 80'],
  },
  {
    title: 'selectors of one peer hold together, those of several apart',
    objects: [
      kubernetes('p', {
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
    title: 'all addresses but some, though no set can hold /0',
    objects: [
      kubernetes('p', {
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
    title: 'policyTypes Egress without rules lets nothing out, and all in',
    objects: [kubernetes('p', { podSelector: app('a'), policyTypes: ['Egress'] })],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 ICMP', 'node > pod-0 UDP 53', 'pod-1 > outside UDP 53'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside UDP 53', 'pod-0 > outside ICMP', 'pod-0 > pod-2 SCTP 80'],
  },
  {
    title: 'policyTypes Ingress lets all out, whatever the rules of egress',
    objects: [kubernetes('p', { podSelector: app('a'), policyTypes: ['Ingress'], egress: [{ ports: [{ port: 1 }] }] })],
    open: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside ICMP', 'node > pod-0 SCTP 80'],
    closed: ['pod-1 > pod-0 TCP 80', 'outside > pod-0 TCP 1'],
  },
  {
    title: 'every operator, in selectors of pods and of namespaces',
    objects: [
      kubernetes('p', {
        podSelector: app('a'),
        ingress: [
          {
            from: [
              {
                podSelector: { matchExpressions: [{ key: 'team', operator: 'Exists' }] },
                namespaceSelector: { matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] },
              },
            ],
            ports: [{ port: 80 }],
          },
          {
            from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['b', 'c'] }] } }],
            ports: [{ protocol: 'UDP', port: 53 }],
          },
          {
            from: [
              {
                podSelector: { matchExpressions: [{ key: 'team', operator: 'DoesNotExist' }] },
                namespaceSelector: { matchExpressions: [{ key: 'tier', operator: 'Exists' }] },
              },
            ],
            ports: [{ protocol: 'SCTP', port: 85 }],
          },
          {
            from: [{ namespaceSelector: { matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['x'] }] } }],
            ports: [{ port: 8080 }],
          },
        ],
      }),
    ],
    open: [
      ...['pod-2 > pod-0 TCP 80', 'pod-1 > pod-0 UDP 53', 'pod-1 > pod-0 SCTP 85', 'pod-2 > pod-0 TCP 8080'],
      'node > pod-0 TCP 85',
    ],
    closed: [
      ...['pod-1 > pod-0 TCP 80', 'pod-2 > pod-0 UDP 53', 'pod-2 > pod-0 SCTP 85', 'pod-1 > pod-0 TCP 8080'],
      ...['outside > pod-0 TCP 80', 'outside > pod-0 TCP 8080', 'pod-2 > pod-0 ICMP'],
    ],
  },
  {
    title: 'one name is a port of TCP here, of UDP there and of SCTP elsewhere',
    pods: {
      'pod-1': { ports: [{ name: 'web', protocol: 'UDP', port: 53 }] },
      'pod-2': { ports: [{ name: 'web', protocol: 'SCTP', port: 85 }] },
    },
    objects: [
      kubernetes('in', {
        podSelector: {},
        policyTypes: ['Ingress'],
        ingress: [{ ports: [{ port: 'web' }, { protocol: 'UDP', port: 'web' }] }],
      }),
      kubernetes('out', {
        podSelector: app('b'),
        policyTypes: ['Egress'],
        egress: [{ to: [{ namespaceSelector: {} }], ports: [{ port: 'web' }, { protocol: 'SCTP', port: 'web' }] }],
      }),
    ],
    open: ['pod-2 > pod-0 TCP 80', 'pod-0 > pod-1 UDP 53', 'pod-1 > pod-0 TCP 80', 'pod-1 > pod-2 SCTP 85'],
    closed: [
      ...['pod-2 > pod-0 UDP 80', 'pod-2 > pod-0 UDP 53', 'pod-0 > pod-1 TCP 53', 'pod-0 > pod-1 TCP 80'],
      ...['pod-1 > pod-2 TCP 85', 'pod-1 > pod-2 UDP 85', 'pod-1 > pod-0 TCP 8080', 'pod-1 > outside TCP 80'],
    ],
  },
  {
    title: 'ranges of ports to addresses, of TCP and of UDP',
    objects: [
      kubernetes('p', {
        podSelector: app('b'),
        policyTypes: ['Egress'],
        egress: [
          {
            to: [{ ipBlock: { cidr: '192.0.2.0/24' } }, { ipBlock: { cidr: 'fd00::8/125' } }],
            ports: [
              { port: 80, endPort: 85 },
              { protocol: 'UDP', port: 8000, endPort: 8080 },
            ],
          },
        ],
      }),
    ],
    open: ['pod-1 > outside TCP 80', 'pod-1 > outside TCP 85', 'pod-1 > outside UDP 8080', 'pod-0 > pod-1 TCP 53'],
    closed: ['pod-1 > outside TCP 86', 'pod-1 > outside TCP 79', 'pod-1 > outside UDP 80', 'pod-1 > pod-0 TCP 80'],
  },
  {
    title: 'pods without labels are pods',
    pods: { 'pod-1': { labels: {} } },
    objects: [
      kubernetes('bare', {
        podSelector: { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] },
        ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }],
      }),
      kubernetes('other', {
        podSelector: app('a'),
        ingress: [
          { from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['a'] }] } }] },
        ],
      }),
    ],
    open: ['pod-0 > pod-1 TCP 80', 'pod-1 > pod-0 TCP 80', 'pod-1 > pod-0 ICMP'],
    closed: ['pod-2 > pod-1 TCP 80', 'outside > pod-1 TCP 80', 'pod-0 > pod-1 UDP 53', 'pod-2 > pod-0 TCP 80'],
  },
  {
    title: 'a pod is all its addresses, as subject, peer and holder of a named port',
    pods: { 'pod-0': { addresses: ['10.65.0.1', 'fd00::1', ...moreAddresses] } },
    objects: [
      kubernetes('subject', {
        podSelector: app('a'),
        policyTypes: ['Ingress'],
        ingress: [{ ports: [{ port: 'web' }] }],
      }),
      kubernetes('peer', { podSelector: app('b'), ingress: [{ from: [{ podSelector: app('a') }] }] }),
    ],
    open: moreAddresses
      .flatMap((more) => [`pod-1 > ${more} TCP 80`, `${more} > pod-1 UDP 53`])
      .concat('pod-0 > pod-1 ICMP'),
    closed: moreAddresses
      .flatMap((more) => [`pod-1 > ${more} TCP 8080`, `outside > ${more} UDP 80`])
      .concat('pod-2 > pod-1 ICMP'),
  },
  {
    title: 'what is on the network of another node is that address, and no pod of any selector',
    objects: [
      calicoEvent('Node', { name: 'far' }, { bgp: { ipv4Address: '192.0.2.130/24', ipv6Address: 'fd00::8/64' } }),
      kubernetes('p', {
        podSelector: app('a'),
        ingress: [
          { from: [{ namespaceSelector: {}, podSelector: {} }], ports: [{ protocol: 'UDP', port: 53 }] },
          {
            from: [{ ipBlock: { cidr: '192.0.2.130/32' } }, { ipBlock: { cidr: 'fd00::8/128' } }],
            ports: [{ port: 80 }],
          },
        ],
      }),
    ],
    open: ['outside > pod-0 TCP 80', 'pod-1 > pod-0 UDP 53', 'pod-2 > pod-0 UDP 53'],
    closed: ['outside > pod-0 UDP 53', 'pod-1 > pod-0 TCP 80'],
  },
];
