import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { anyPage } from '../../../src/cli/explain-service-page.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import { parseDestination, parseEnd } from '../../../src/policy/ends.ts';
import { answerAny, type ServiceAnswer } from '../../../src/policy/service-question.ts';
import { calicoEvent, endpointEvent, namespaceEvent, policyEvent, serviceEvent, set } from '../../support/cluster.ts';

/* A service as the destination of a question. */

const log = createLog('test', 'silent');
const pod = (name: string, addresses: readonly string[], app = name) => ({
  ...{ name, namespace: 'shop', labels: { app }, addresses },
  ports: [],
});
type Port = { readonly name?: string; readonly protocol?: string; readonly port?: number };
const slice = (name: string, endpoints: readonly object[], ports: readonly Port[], addressType = 'IPv4') =>
  set(
    { type: 'EndpointSlice', namespace: 'shop', name },
    parseKubernetes({
      kind: 'EndpointSlice',
      apiVersion: 'discovery.k8s.io/v1',
      metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': 'db' } },
      ...{ addressType, endpoints, ports },
    }),
  );
const service = (spec: object) => serviceEvent('shop', 'db', { clusterIP: '10.96.0.10', ...spec });
const open = (app: string) =>
  policyEvent({
    ...{ name: app, namespace: 'shop' },
    spec: { podSelector: { matchLabels: { app } }, ingress: [{ ports: [{ port: 5432 }] }] },
  });
const sql = { name: 'sql', port: 5432 };
const world: Event[] = [
  namespaceEvent('shop', {}),
  calicoEvent('Node', { name: 'n2' }, { bgp: { ipv4Address: '192.0.2.2/24' } }),
  endpointEvent(pod('web', ['10.0.0.1', 'fd00::1']), 'n1'),
  endpointEvent(pod('db-0', ['10.0.0.2', 'fd00::2'], 'db'), 'n2'),
  endpointEvent(pod('db-1', ['10.0.0.3', 'fd00::3'], 'db'), 'n3'),
  endpointEvent(pod('old', ['10.0.0.4']), 'n3'),
  open('db'),
  // Closed on the port that the service leads to.
  policyEvent({ name: 'old', namespace: 'shop', spec: { podSelector: { matchLabels: { app: 'old' } }, ingress: [] } }),
];
const ready = (address: string, nodeName: string, conditions = {}) => ({ addresses: [address], nodeName, conditions });
const two = [ready('10.0.0.2', 'n2'), ready('10.0.0.3', 'n3')];
const own = service({ ports: [{ name: 'sql', port: 80, targetPort: 'sql' }] });

function ask(to: string, more: readonly Event[], from = 'web', family?: 4 | 6) {
  const question = { source: parseEnd(from, 'shop', 'FROM'), ...parseDestination(to, 'shop', 'TO') };
  return answerAny([...world, ...more], { ...question, ...(family && { family }) }, log);
}

function asked(to: string, more: readonly Event[], from?: string, family?: 4 | 6) {
  const found = ask(to, more, from, family) as ServiceAnswer;
  const endpoints = found.endpoints.map(({ verdict, destination: { address }, transport }) =>
    'port' in transport ? `${verdict} ${address} ${transport.protocol} ${transport.port}` : '',
  );
  return { verdict: found.verdict, endpoints, problems: found.problems };
}

test('each endpoint is asked on the port that the service leads to', () => {
  const events = [own, slice('a', two, [sql])];
  const expected = {
    verdict: 'allow',
    endpoints: ['allow 10.0.0.2 tcp 5432', 'allow 10.0.0.3 tcp 5432'],
    problems: [],
  };
  expect(asked('svc:db:80', events)).toEqual(expected);
  expect(asked('svc:shop/db:sql', events)).toEqual(expected);
  expect(asked('10.96.0.10:80', events)).toEqual(expected);
  expect(ask('svc:db:80', events)).toMatchObject({
    service: { namespace: 'shop', name: 'db', address: '10.96.0.10', protocol: 'tcp', port: 80, portName: 'sql' },
    source: { pod: 'web', node: 'n1', address: '10.0.0.1' },
  });
  // A named target port can mean another number at other pods, which are in a slice of their own.
  expect(asked('svc:db:80', [...events, slice('b', [ready('10.0.0.4', 'n3')], [{ ...sql, port: 5433 }])])).toEqual({
    verdict: 'mixed',
    endpoints: ['allow 10.0.0.2 tcp 5432', 'allow 10.0.0.3 tcp 5432', 'deny 10.0.0.4 tcp 5433'],
    problems: [],
  });
  expect(asked('svc:db:80', [own, slice('b', [ready('10.0.0.4', 'n3')], [sql])]).verdict).toBe('deny');
});

test('the page says what policy sees, how it goes to each endpoint, and why', () => {
  const page = anyPage(ask('svc:db:sql', [own, slice('a', [...two, ready('10.0.0.4', 'n3')], [sql])]));
  expect(page).toContain(
    `shop/web (10.0.0.1 on n1) -> service shop/db (10.96.0.10), tcp 80 (sql): allowed to some, 2 of 3 endpoints
kube-proxy puts an endpoint in the place of the service's address before policy is asked, so policy sees the endpoint
  allowed: shop/db-0 (10.0.0.2 on n2), tcp 5432
  allowed: shop/db-1 (10.0.0.3 on n3), tcp 5432
  denied: shop/old (10.0.0.4 on n3), tcp 5432

shop/web (10.0.0.1 on n1) -> shop/db-0 (10.0.0.2 on n2), tcp 5432: allowed
`,
  );
  expect(page).toContain('ingress to shop/old: denied, as policies of tier default apply');
});

describe('which endpoints', () => {
  const endpointsOf = (endpoints: readonly object[], spec = {}, to = 'svc:db:80', from?: string) =>
    asked(to, [service({ ports: [{ port: 80 }], ...spec }), slice('a', endpoints, [{ port: 5432 }])], from).endpoints;
  const [notReady, ending, ended] = [
    { ready: false },
    { ready: false, serving: true, terminating: true },
    { ready: false, serving: false, terminating: true },
  ];

  test('those that are ready; without one, those that serve while they end', () => {
    expect(endpointsOf([ready('10.0.0.2', 'n2', notReady), ready('10.0.0.3', 'n3', { ready: true })])).toEqual([
      'allow 10.0.0.3 tcp 5432',
    ]);
    expect(endpointsOf([ready('10.0.0.2', 'n2', ending), ready('10.0.0.3', 'n3')])).toEqual([
      'allow 10.0.0.3 tcp 5432',
    ]);
    expect(endpointsOf([ready('10.0.0.2', 'n2', ending), ready('10.0.0.3', 'n3', ended)])).toEqual([
      'allow 10.0.0.2 tcp 5432',
    ]);
  });

  test('none: the connection is refused, which the answer says', () => {
    const events = [own, slice('a', [ready('10.0.0.2', 'n2', ended)], [sql])];
    expect(asked('svc:db:80', events)).toMatchObject({ verdict: 'deny', endpoints: [] });
    expect(anyPage(ask('svc:db:80', events))).toContain('! service shop/db has no endpoint that is ready');
  });

  test('with internalTrafficPolicy Local those of the node of the source', () => {
    const local = { internalTrafficPolicy: 'Local', externalIPs: ['198.51.100.10'] };
    expect(endpointsOf(two, local, 'svc:db:80', 'db-1')).toEqual(['allow 10.0.0.3 tcp 5432']);
    expect(endpointsOf(two, local, '10.96.0.10:80', 'host:n2')).toEqual(['allow 10.0.0.2 tcp 5432']);
    expect(endpointsOf(two, local)).toEqual([]);
    // Not for its addresses outside.
    expect(endpointsOf(two, local, '198.51.100.10:80')).toHaveLength(2);
  });

  test('of many the first, and the answer says so', () => {
    const many = Array.from({ length: 70 }, (_, at) => ready(`10.0.1.${at}`, 'n9'));
    const found = asked('svc:db:80', [own, slice('a', many, [sql])]);
    expect(found.endpoints).toHaveLength(64);
    expect(found.problems).toEqual(['only 64 of 70 endpoints were asked']);
  });

  test('of the family that both ends have', () => {
    const both = service({ clusterIPs: ['10.96.0.10', 'fd96::10'], ports: [{ port: 80 }] });
    const six = slice('six', [ready('fd00::2', 'n2')], [{ port: 5432 }], 'IPv6');
    const four = slice('four', two, [{ port: 5432 }]);
    expect(asked('svc:db:80', [both, four, six]).endpoints).toHaveLength(2);
    expect(asked('svc:db:80', [both, four, six], 'web', 6).endpoints).toEqual(['allow fd00::2 tcp 5432']);
    expect(asked('[fd96::10]:80', [both, four, six]).endpoints).toEqual(['allow fd00::2 tcp 5432']);
    const only = service({ clusterIP: 'fd96::10', ports: [{ port: 80 }] });
    expect(asked('svc:db:80', [only, four, six]).endpoints).toEqual(['allow fd00::2 tcp 5432']);
    expect(() => ask('svc:db:80', [only, six], 'old')).toThrow(/family of the source/);
  });
});

test('headless: the number that is asked about, or by name that of the endpoints; nothing is translated', () => {
  const headless = service({ clusterIP: 'None', ports: [{ name: 'sql', port: 80, targetPort: 5432 }] });
  const events = [headless, slice('a', two, [sql])];
  expect(asked('svc:db:80', events).endpoints).toEqual(['deny 10.0.0.2 tcp 80', 'deny 10.0.0.3 tcp 80']);
  expect(asked('svc:db:sql', events).endpoints).toEqual(['allow 10.0.0.2 tcp 5432', 'allow 10.0.0.3 tcp 5432']);
  expect(ask('svc:db:sql', events)).not.toHaveProperty('service.address');
  expect(anyPage(ask('svc:db:sql', events))).not.toContain('kube-proxy');
  const portless = [service({ clusterIP: 'None' }), slice('a', two, [])];
  expect(asked('svc:db:5432', portless).endpoints[0]).toBe('allow 10.0.0.2 tcp 5432');
});

test('from outside the source may be another by the time policy sees it', () => {
  const events = (policy: string) => [
    service({ externalIPs: ['198.51.100.10'], externalTrafficPolicy: policy, ports: [{ name: 'sql', port: 80 }] }),
    slice('a', two, [sql]),
  ];
  const told = (to: string, policy: string) => asked(to, events(policy), '203.0.113.9').problems;
  expect(told('198.51.100.10:80', 'Cluster')).toEqual([expect.stringContaining('in the place of 203.0.113.9')]);
  expect(told('198.51.100.10:80', 'Local')).toEqual([]);
  expect(told('svc:db:80', 'Local')).toHaveLength(1);
});

test('an address of a service on a port that it does not have is like any other', () => {
  expect(ask('10.96.0.10:81', [own, slice('a', two, [sql])])).toMatchObject({
    verdict: 'allow',
    destination: { address: '10.96.0.10' },
  });
  expect(ask('10.96.0.10:icmp', [own])).not.toHaveProperty('service');
});

test.each([
  ['svc:nobody:80', 'destination: "svc:shop/nobody": expected a service that exists'],
  ['svc:db:81', 'destination: "81/tcp": expected a port of service shop/db: sql 80/tcp'],
  ['svc:db:80/udp', 'destination: "80/udp": expected a port of service shop/db: sql 80/tcp'],
  ['svc:db:http', 'destination: "http": expected a port of service'],
  ['svc:other:80', /expected a service with endpoints/],
  ['svc:db', /^TO: /],
  ['svc:db:0', /^TO: /],
  ['svc:db:65536', /^TO: /],
  ['svc:a/b/c:80', /^TO: /],
  ['svc:db:80/icmp', /^TO: /],
  ['svc/db:80', 'a service is svc:NAME'],
])('%s is refused', (to, message) => {
  const named = serviceEvent('shop', 'other', { type: 'ExternalName', externalName: 'db.example.com' });
  expect(() => ask(to, [own, named])).toThrow(message);
});

test('a slice with an address that is none does not keep the others from being asked', () => {
  const events = [own, slice('a', [ready('nonsense', 'n2'), ...two], [sql])];
  expect(asked('svc:db:80', events).endpoints).toHaveLength(2);
});
