import { describe, expect, test } from 'vitest';
import { type Finding, validate } from '../../../src/cli/validate.ts';

function brief(text: string): string[] {
  return validate([{ file: 'f.yaml', text }], 'default').map(
    ({ severity, file, line, field, found, expected }: Finding) =>
      `${file}:${line} ${severity} ${field} ${found ?? '-'} | ${expected}`,
  );
}

const policy = (spec: string) => `apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
${spec}`;

test('every problem of every document, each with its line', () => {
  const text = `${policy(`  tier: 7
  ingress:
  - action: Permit
  - action: Allow
    source:
      services: {name: ''}
      colour: red
`)}---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: k}
spec:
  podSelector: {}
  ingress:
  - ports:
    - port: 70000
    fro: []
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: s}
spec: {nets: [10.0.0.0/8, ten]}
`;
  const lines = brief(text);
  expect(lines.map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
    'f.yaml:5 error spec.tier',
    'f.yaml:7 error spec.ingress[0].action',
    'f.yaml:10 error spec.ingress[1].source.services.name',
    'f.yaml:11 error spec.ingress[1].source.colour',
    'f.yaml:20 error spec.ingress[0].ports[0].port',
    'f.yaml:21 error spec.ingress[0].fro',
    'f.yaml:26 error spec.nets[1]',
  ]);
  expect(lines.at(-1)).toBe('f.yaml:26 error spec.nets[1] "ten" | a prefix such as 10.0.0.0/8, or an address');
});

test('annotations that the dataplane would not understand', () => {
  const lines = brief(`apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: p
  annotations: {margay.io/tunnelFallback: GRE}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata:
  name: n1-k8s-web-eth0
  namespace: shop
  annotations:
    qos.projectcalico.org/ingressMaxConnections: many
spec: {node: n1, orchestrator: k8s, endpoint: eth0, interfaceName: calia}
`);
  expect(lines).toEqual([
    'f.yaml:5 error metadata.annotations.margay.io/tunnelFallback "GRE" | VXLAN, UDP or "VXLAN,UDP"',
    'f.yaml:14 error metadata.annotations.qos.projectcalico.org/ingressMaxConnections "many" | a quantity such as 10M',
  ]);
});

test('what only compiling finds, all of it', () => {
  const lines = brief(
    policy(`  selector: app =
  ingress:
  - action: Allow
    source: {nets: [10.0.0.0/33]}
  - action: Allow
    destination: {ports: [80]}
`),
  );
  expect(lines.map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
    'f.yaml:5 error spec.selector',
    'f.yaml:8 error spec.ingress[0].source.nets[0]',
    'f.yaml:10 error spec.ingress[1].destination.ports[0]',
  ]);
});

test('broken YAML, unknown kinds and members of lists', () => {
  expect(brief('a: [1\nb: 2\n')[0]).toMatch(/^f\.yaml:2 error document/);
  expect(brief('kind: Gadget\napiVersion: v1\n')[0]).toMatch(
    /^f\.yaml:1 error kind "Gadget" \| an object of Kubernetes .*NetworkPolicy/,
  );
  const list =
    'kind: List\nitems:\n- kind: Tier\n  apiVersion: projectcalico.org/v3\n  metadata: {name: t}\n  spec:\n    order: x\n';
  expect(brief(list)[0]).toMatch(/^f\.yaml:7 error spec\.order "x"/);
});

describe('warnings', () => {
  test.each([
    ['protocol', '  - {action: Allow, protocol: TCP, notProtocol: TCP}\n', /ingress\[0\] - \| cannot match: protocol/],
    ['families', '  - {action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}\n', /IPv4 and IPv6 at once/],
    [
      'prefixes',
      '  - {action: Allow, source: {nets: [10.1.0.0/16], notNets: [10.0.0.0/8]}}\n',
      /source\.notNets hold all/,
    ],
    [
      'order',
      '  - {action: Deny}\n  - {action: Allow, protocol: TCP}\n',
      /^f\.yaml:7 warning spec\.ingress\[1\] .*rule 1 before it/,
    ],
    ['log', '  - {action: Log}\n', /the last rule only logs/],
  ])('%s', (_, rules, warning) => {
    const lines = brief(policy(`  ingress:\n${rules}`));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(warning);
  });

  test('a tier that is nowhere, and a selector of none of the pods that the files give', () => {
    const pod = `---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-k8s-web-eth0, namespace: shop, labels: {app: web}}
spec: {orchestrator: k8s, node: n1, endpoint: eth0, pod: web, ipNetworks: [10.65.0.1/32], interfaceName: caliweb}
`;
    expect(brief(policy('  tier: mine\n'))).toEqual([expect.stringContaining('tier mine is not in the files')]);
    expect(brief(policy("  selector: app == 'w'\n"))).toEqual([]);
    expect(brief(policy("  selector: app == 'w'\n") + pod)).toEqual([
      'f.yaml:5 warning spec.selector - | selects none of the pods in the files',
    ]);
    expect(brief(policy("  selector: app == 'web'\n") + pod)).toEqual([]);
  });
});
