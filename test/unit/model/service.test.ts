import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseResource } from '../../../src/model/kinds.ts';
import { isKubernetesObject, parseKubernetes } from '../../../src/model/kubernetes.ts';

const service = (rest: string) =>
  parse(`{kind: Service, apiVersion: v1, metadata: {name: web, namespace: shop}, ${rest}}`);
const slice = (rest: string, labels = '{kubernetes.io/service-name: web}') =>
  parse(
    `{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: web-1, namespace: shop, labels: ${labels}}, ${rest}}`,
  );

test('a Service keeps its addresses, ports and policies, and nothing else', () => {
  const value = service(`
    spec: {type: LoadBalancer, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, "fd00::5"], externalIPs: [192.0.2.1],
           externalTrafficPolicy: Local, internalTrafficPolicy: Cluster, ports: [{port: 80}, {name: dns, port: 53, protocol: UDP, targetPort: dns, nodePort: 30053}], selector: {app: web}},
    status: {loadBalancer: {ingress: [{ip: 198.51.100.7, ipMode: VIP}, {hostname: lb.example}]}}`);
  expect(isKubernetesObject(value)).toBe(true);
  expect(parseKubernetes(value)).toEqual({
    kind: 'Service',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'web', namespace: 'shop' },
    spec: {
      type: 'LoadBalancer',
      clusterIPs: ['10.96.0.5', 'fd00::5'],
      externalIPs: ['192.0.2.1'],
      loadBalancerIPs: ['198.51.100.7'],
      externalTrafficPolicy: 'Local',
      internalTrafficPolicy: 'Cluster',
      ports: [
        { protocol: 'TCP', port: 80 },
        { name: 'dns', protocol: 'UDP', port: 53 },
      ],
    },
  });
});

test.each([
  ['an old object has clusterIP only', 'spec: {clusterIP: 10.96.0.5}', ['10.96.0.5']],
  ['a headless one has none', 'spec: {clusterIP: None, clusterIPs: [None]}', []],
  ['one without a cluster has none', 'spec: {type: ExternalName, externalName: a.example}', []],
  ['null is absent', 'spec: {clusterIP: null, externalTrafficPolicy: null}, status: null', []],
])('%s', (_, rest, clusterIPs) => {
  expect(parseKubernetes(service(rest)).spec).toMatchObject({ clusterIPs, externalTrafficPolicy: 'Cluster' });
});

test('an EndpointSlice keeps where its endpoints are and how they fare', () => {
  const value = slice(`addressType: IPv4, ports: [{port: 80}], endpoints: [
    {addresses: [10.0.0.1], nodeName: a, conditions: {ready: true, serving: null}, targetRef: {kind: Pod}},
    {addresses: [10.0.0.2], conditions: null}]`);
  expect(parseKubernetes(value)).toEqual({
    kind: 'EndpointSlice',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'web-1', namespace: 'shop' },
    spec: {
      service: 'web',
      addressType: 'IPv4',
      endpoints: [
        { addresses: ['10.0.0.1'], nodeName: 'a', conditions: { ready: true } },
        { addresses: ['10.0.0.2'], conditions: {} },
      ],
      ports: [{ protocol: 'TCP', port: 80 }],
    },
  });
  expect(parseKubernetes(slice('addressType: IPv6, endpoints: null', 'null')).spec).toEqual({
    addressType: 'IPv6',
    endpoints: [],
    ports: [],
  });
});

test.each([
  [service('spec: {type: Magic}'), /^Service\.spec\.type: "Magic"/],
  [
    service('spec: {externalIPs: [lb.example]}'),
    /^Service\(web\)\.spec\.externalIPs\[0\]: "lb\.example": .*IP address/,
  ],
  [slice('addressType: IPv5'), /^EndpointSlice\.addressType: "IPv5"/],
  [slice('addressType: IPv4, endpoints: [{nodeName: 3}]'), /^EndpointSlice\.endpoints\[0\]\.nodeName: 3/],
])('a wrong field is named', (value, message) => {
  expect(() => parseKubernetes(value)).toThrow(message);
});

test('what was converted is a resource', () => {
  const converted = parseKubernetes(service('spec: {clusterIP: 10.96.0.5}'));
  expect(parseResource('Service', converted)).toEqual(converted);
});
