import { app, calico, cluster, everyone, kubernetes, type Row } from './row.ts';

const pods = (name: string) => ({ pods: { namespaceSelector: {}, podSelector: app(name) } });
const port = (number: number) => [{ portNumber: { protocol: 'TCP', port: number } }];

/** policy.networking.k8s.io: AdminNetworkPolicy and its baseline (v1alpha1), ClusterNetworkPolicy (v1alpha2). */
export const clusterRows: readonly Row[] = [
  {
    title: 'the baseline is hidden in the direction that a policy isolates, and in no other',
    objects: [
      cluster('BaselineAdminNetworkPolicy', 'default', {
        subject: everyone,
        ingress: [{ action: 'Deny', from: [everyone] }],
        egress: [{ action: 'Deny', to: [{ networks: ['192.0.2.0/24', 'fd00::8/128'] }] }],
      }),
      kubernetes('p', { podSelector: app('a'), policyTypes: ['Ingress'], ingress: [{}] }),
    ],
    open: ['pod-1 > pod-0 TCP 80', 'outside > pod-1 TCP 80'],
    closed: ['pod-0 > pod-1 TCP 80', 'pod-0 > outside TCP 80', 'pod-1 > outside UDP 53'],
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
    title: 'the lower priority decides first, in either version',
    objects: [
      cluster('AdminNetworkPolicy', 'late', {
        ...{ priority: 20, subject: everyone },
        ingress: [{ action: 'Allow', from: [everyone] }],
      }),
      cluster('ClusterNetworkPolicy', 'early', {
        ...{ tier: 'Admin', priority: 10, subject: everyone },
        ingress: [
          { action: 'Deny', from: [pods('b')], protocols: [{ tcp: { destinationPort: { number: 80 } } }] },
          { action: 'Deny', from: [pods('b')], protocols: [{ sctp: { destinationPort: { number: 80 } } }] },
        ],
      }),
      kubernetes('closed', { podSelector: {}, policyTypes: ['Ingress'] }),
    ],
    open: ['pod-1 > pod-0 TCP 8080', 'pod-0 > pod-1 TCP 80', 'pod-1 > pod-2 UDP 80', 'pod-1 > pod-0 ICMP'],
    closed: ['pod-1 > pod-0 TCP 80', 'pod-1 > pod-2 SCTP 80', 'outside > pod-0 TCP 80'],
  },
  {
    title: 'Pass leads to the policies of the namespace, and where none isolates to the baseline',
    objects: [
      cluster('AdminNetworkPolicy', 'first', {
        ...{ priority: 1, subject: everyone },
        ingress: [{ action: 'Pass', from: [pods('b')] }],
      }),
      cluster('AdminNetworkPolicy', 'second', {
        ...{ priority: 2, subject: everyone },
        ingress: [{ action: 'Deny', from: [everyone] }],
      }),
      calico('own', 'two', { ingress: [{ action: 'Allow', protocol: 'TCP' }] }),
      cluster('BaselineAdminNetworkPolicy', 'default', {
        subject: everyone,
        ingress: [
          { action: 'Allow', from: [everyone], ports: port(80) },
          { action: 'Deny', from: [everyone] },
        ],
      }),
    ],
    open: ['pod-1 > pod-2 TCP 8080', 'pod-1 > pod-0 TCP 80', 'outside > pod-0 UDP 53', 'node > pod-0 TCP 8080'],
    closed: ['pod-1 > pod-2 UDP 53', 'pod-1 > pod-0 TCP 8080', 'pod-0 > pod-1 TCP 80', 'outside > pod-2 UDP 53'],
  },
  {
    title: 'namespaces of the same labels, and of others',
    namespaces: { one: { env: 'prod' }, two: { env: 'test' } },
    objects: [
      cluster('AdminNetworkPolicy', 'apart', {
        ...{ priority: 1, subject: everyone },
        ingress: [
          { action: 'Allow', from: [{ namespaces: { sameLabels: ['env'] } }] },
          { action: 'Deny', from: [{ namespaces: { notSameLabels: ['env'] } }], ports: port(80) },
        ],
      }),
      kubernetes('closed', { podSelector: {}, policyTypes: ['Ingress'] }),
    ],
    open: ['pod-0 > pod-1 UDP 53', 'pod-1 > pod-0 TCP 80', 'pod-0 > pod-2 TCP 8080', 'outside > pod-2 TCP 80'],
    closed: ['pod-0 > pod-2 TCP 80', 'pod-2 > pod-0 TCP 80', 'pod-2 > pod-0 UDP 53', 'outside > pod-0 TCP 80'],
  },
  {
    title: 'named ports are those of each destination, and subjects are pods by both selectors',
    objects: [
      cluster('AdminNetworkPolicy', 'named', {
        priority: 1,
        subject: { pods: { namespaceSelector: { matchLabels: { tier: 'x' } }, podSelector: {} } },
        ingress: [{ action: 'Deny', from: [everyone], ports: [{ namedPort: 'web' }] }],
        egress: [
          { action: 'Deny', to: [everyone], ports: [{ portRange: { protocol: 'UDP', start: 53, end: 80 } }] },
          { action: 'Deny', to: [{ networks: ['192.0.2.128/25', 'fd00::8/127'] }], ports: port(85) },
        ],
      }),
    ],
    open: ['pod-1 > pod-0 TCP 8080', 'pod-0 > pod-1 TCP 80', 'pod-0 > pod-2 TCP 8080', 'pod-0 > outside UDP 53'],
    closed: ['pod-1 > pod-0 TCP 80', 'pod-0 > pod-1 TCP 8080', 'pod-0 > pod-2 UDP 80', 'pod-1 > outside TCP 85'],
  },
];
