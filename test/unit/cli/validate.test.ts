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

test('one fault hides no other: of the schema, of selectors, addresses and ports, and of the YAML itself', () => {
  const text = policy(`  selector: app == 'x
  types: [Ingress, Both]
  order: first
  ingress:
  - action: Alow
    protocol: TCPP
    source: {nets: [10.0.0.0/8, ten], selector: has(, notSelector: "a ="}
    icmp: {type: 300}
  - action: Deny
    protocol: TCP
    source: {ports: ["9:1", a b], nets: [10.0.0.0/40]}
`);
  expect(brief(`${text}---\na: 1\na: 2\nb: 3\nb: 4\n`)).toEqual([
    expect.stringMatching(/^f\.yaml:5 error spec\.selector .*closing quote at position 8/),
    'f.yaml:6 error spec.types[1] "Both" | one of Ingress, Egress',
    'f.yaml:7 error spec.order "first" | a number',
    'f.yaml:9 error spec.ingress[0].action "Alow" | one of Allow, Deny, Log, Pass',
    'f.yaml:10 error spec.ingress[0].protocol "TCPP" | a number, or one of TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite',
    expect.stringMatching(/^f\.yaml:11 error spec\.ingress\[0\]\.source\.selector "has\(" \| a label name/),
    expect.stringMatching(/^f\.yaml:11 error spec\.ingress\[0\]\.source\.notSelector "a =" \| an operator/),
    expect.stringMatching(/^f\.yaml:11 error spec\.ingress\[0\]\.source\.nets\[1\] "ten"/),
    'f.yaml:12 error spec.ingress[0].icmp.type 300 | 254 or less',
    expect.stringMatching(/^f\.yaml:15 error spec\.ingress\[1\]\.source\.ports\[0\] "9:1" \| an ascending range/),
    expect.stringMatching(/^f\.yaml:15 error spec\.ingress\[1\]\.source\.nets\[0\] "10\.0\.0\.0\/40"/),
    'f.yaml:18 error document "a" | readable YAML: Map keys must be unique',
    'f.yaml:20 error document "b" | readable YAML: Map keys must be unique',
  ]);
});

test('a field that no kind has: refused in policies and outside of spec, elsewhere told to be without effect', () => {
  expect(brief(policy("  selecter: app == 'x'\n  performanceHints: [AssumeNeededOnEveryNode]\n"))).toEqual([
    `f.yaml:5 error spec.selecter "app == 'x'" | no such field`,
  ]);
  expect(
    brief('apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t, labls: {}}\nspecs: {}\nspec: {ordr: 1}\n'),
  ).toEqual([
    'f.yaml:3 error metadata.labls {} | no such field',
    'f.yaml:4 error specs {} | no such field',
    'f.yaml:5 error spec.ordr 1 | no such field',
  ]);
  const peer = 'apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: t}\nspec:\n  asNumber: 1\n';
  expect(brief(`${peer}  peerIp: 192.0.2.1\n  peerIP: 192.0.2.1\n`)).toEqual([
    'f.yaml:6 warning spec.peerIp - | not a field that Margay knows: it has no effect',
  ]);
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
    [
      'an earlier rule that holds a later one',
      '  - {action: Allow, protocol: TCP, destination: {ports: ["1:100"]}}\n' +
        '  - {action: Deny, protocol: TCP, source: {nets: [10.0.0.0/8]}, destination: {ports: [80]}}\n',
      /^f\.yaml:7 warning spec\.ingress\[1\] .*rule 1 before it decides all that it matches/,
    ],
    [
      'ports',
      '  - {action: Allow, protocol: TCP, destination: {notPorts: ["0:79", "80:65535"]}}\n',
      /destination\.notPorts hold every port/,
    ],
    [
      'icmp',
      '  - {action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}, notICMP: {type: 8}}\n',
      /notICMP holds all/,
    ],
    [
      'a selector against itself',
      "  - {action: Allow, source: {selector: a == 'b' && a == 'c'}}\n",
      /a == "c"\)\) contradicts itself and selects nothing$/,
    ],
    [
      'a direction that types leave out',
      '  - {action: Allow}\n  types: [Egress]\n',
      /^f\.yaml:6 warning spec\.ingress - \| these rules have no effect: types leave this direction out$/,
    ],
  ])('%s', (_, rules, warning) => {
    const lines = brief(policy(`  ingress:\n${rules}`));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(warning);
  });

  test('a peer and its exception that are the same', () => {
    const text = policy("  ingress:\n  - {action: Allow, source: {selector: a == 'b', notSelector: a == 'b'}}\n");
    const global = text.replace('NetworkPolicy', 'GlobalNetworkPolicy').replace(', namespace: shop', '');
    expect(brief(global)).toEqual([expect.stringContaining('source.notSelector selects the same as source.selector')]);
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
    const peer = (text: string) => brief(policy(`  ingress:\n  - {action: Allow, protocol: TCP, ${text}}\n`) + pod);
    expect(peer('source: {selector: app == "gone"}')).toEqual([
      expect.stringMatching(
        /^f\.yaml:6 warning spec\.ingress\[0\] .*app == "gone".*selects none of the pods and network/,
      ),
    ]);
    expect(peer('source: {selector: app == "web"}')).toEqual([]);
    expect(peer('destination: {ports: [http]}')).toEqual([
      expect.stringMatching(/no pod in the files has the port http\/tcp here$/),
    ]);
    expect(brief(policy('  order: 1\n') + pod + policy('  order: 2\n').replace(/^/, '---\n'))).toEqual([
      expect.stringMatching(/^f\.yaml:14 warning metadata\.name .*replaces the object at f\.yaml:1,/),
    ]);
  });
});
