import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { InputError } from '../../../src/base/errors.ts';
import { readClusterPolicy } from '../../../src/model/kubernetes/cluster-policy.ts';
import {
  isKubernetesObject,
  kubernetesName,
  kubernetesProblems,
  parseKubernetes,
  readKubernetes,
} from '../../../src/model/kubernetes.ts';

/* policy.networking.k8s.io: AdminNetworkPolicy, BaselineAdminNetworkPolicy (v1alpha1), ClusterNetworkPolicy (v1alpha2). */

const pods = "projectcalico.org/orchestrator == 'k8s'";
const everywhere = { selector: pods, namespaceSelector: 'all()' };

const object = (kind: string, spec: unknown, name = 'default') => ({
  kind,
  apiVersion: `policy.networking.k8s.io/${kind === 'ClusterNetworkPolicy' ? 'v1alpha2' : 'v1alpha1'}`,
  metadata: { name },
  spec,
});
const admin = (yaml: string) =>
  object('AdminNetworkPolicy', { priority: 7, subject: { namespaces: {} }, ...(parse(yaml) as object) });
const cluster = (yaml: string) =>
  object('ClusterNetworkPolicy', {
    tier: 'Admin',
    priority: 7,
    subject: { namespaces: {} },
    ...(parse(yaml) as object),
  });

describe('place', () => {
  test.each([
    [object('AdminNetworkPolicy', { priority: 7, subject: { namespaces: {} } }, 'a'), 'kanp.a', 'kube-admin', 7],
    [object('BaselineAdminNetworkPolicy', { subject: { namespaces: {} } }), 'kbanp.default', 'kube-baseline', 1001],
    [
      object('ClusterNetworkPolicy', { tier: 'Admin', priority: 0, subject: { namespaces: {} } }, 'a'),
      'kcnp.a',
      'kube-admin',
      0,
    ],
    [
      object('ClusterNetworkPolicy', { tier: 'Baseline', priority: 1000, subject: { namespaces: {} } }, 'a'),
      'kcnp.a',
      'kube-baseline',
      1000,
    ],
  ])('%#', (value, name, tier, order) => {
    expect(isKubernetesObject(value)).toBe(true);
    expect(parseKubernetes(value)).toMatchObject({
      kind: 'GlobalNetworkPolicy',
      metadata: { name },
      spec: { tier, order },
    });
    expect(kubernetesName('GlobalNetworkPolicy', name)).toEqual({ kind: value.kind, name: value.metadata.name });
  });

  test('a subject of namespaces, and of pods in them', () => {
    expect(parseKubernetes(admin('subject: {namespaces: {matchLabels: {team: a}}}')).spec).toMatchObject({
      selector: pods,
      namespaceSelector: "team == 'a'",
    });
    const subject = 'subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}';
    expect(parseKubernetes(admin(subject)).spec).toMatchObject({
      selector: `${pods} && app == 'b'`,
      namespaceSelector: 'all()',
    });
    expect(parseKubernetes(cluster('subject: {pods: {podSelector: {}}}')).spec).toMatchObject(everywhere);
  });

  test.each([
    ['{}', ['Ingress']],
    ['egress: [{action: Deny, to: [{namespaces: {}}]}]', ['Egress']],
    ['ingress: [{action: Deny, from: [{namespaces: {}}]}]', ['Ingress']],
    [
      '{ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Pass, to: [{namespaces: {}}]}]}',
      ['Ingress', 'Egress'],
    ],
  ])('a policy has effect in the directions of its rules: %s', (yaml, types) => {
    expect(parseKubernetes(admin(yaml)).spec).toMatchObject({ types });
  });
});

describe('rules', () => {
  test('of v1alpha1: peers times protocols, with names and places as written', () => {
    const egress = `egress:
    - {name: out, action: Deny, to: [{networks: [10.1.2.3/8, '::/0']}, {nodes: {matchLabels: {zone: b}}}],
       ports: [{portNumber: {port: 80}}, {portRange: {protocol: TCP, start: 90, end: 99}}, {portNumber: {protocol: UDP, port: 53}}]}
    - {action: Pass, to: [{pods: {namespaceSelector: {}, podSelector: {}}}], ports: [{namedPort: web}]}`;
    const nets = { nets: ['10.0.0.0/8', '::/0'] };
    const nodes = { selector: "margay.io/kind == 'Node' && zone == 'b'" };
    const out = (at: number) => ({
      annotations: { ...(at > 0 && { 'margay.io/rule': '0' }), 'margay.io/rule-name': 'out' },
    });
    const second = { annotations: { 'margay.io/rule': '1' } };
    expect(parseKubernetes(admin(egress)).spec).toMatchObject({
      egress: [
        { action: 'Deny', protocol: 'TCP', destination: { ...nets, ports: [80, '90:99'] }, metadata: out(0) },
        { action: 'Deny', protocol: 'UDP', destination: { ...nets, ports: [53] }, metadata: out(1) },
        { action: 'Deny', protocol: 'TCP', destination: { ...nodes, ports: [80, '90:99'] }, metadata: out(2) },
        { action: 'Deny', protocol: 'UDP', destination: { ...nodes, ports: [53] }, metadata: out(3) },
        ...['TCP', 'UDP', 'SCTP'].map((protocol) => ({
          action: 'Pass',
          protocol,
          destination: { ...everywhere, ports: ['web'] },
          metadata: second,
        })),
      ],
    });
  });

  test('of v1alpha2: Accept, and protocols', () => {
    const ingress = `ingress:
    - {action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}},
       {tcp: {destinationPort: {range: {start: 1, end: 5}}}}, {destinationNamedPort: dns}]}
    - {action: Deny, from: [{pods: {podSelector: {matchExpressions: [{key: a, operator: Exists}]}}}]}`;
    const second = { 'margay.io/rule': '1' };
    expect(parseKubernetes(cluster(ingress)).spec.ingress).toMatchObject([
      { action: 'Allow', protocol: 'TCP', source: everywhere, destination: { ports: [80, '1:5', 'dns'] } },
      { action: 'Allow', protocol: 'UDP', source: everywhere, destination: { ports: ['dns'] } },
      { action: 'Allow', protocol: 'SCTP', source: everywhere, destination: { ports: ['dns'] } },
      { action: 'Deny', source: { ...everywhere, selector: `${pods} && has(a)` }, metadata: { annotations: second } },
    ]);
  });
});

const peer = '{namespaces: {}}';
const wrong: [string, ReturnType<typeof object>, string][] = [
  ['priority', admin('priority: 1001'), 'spec.priority'],
  ['a tier in v1alpha1', admin('tier: Admin'), 'spec.tier'],
  ['an unknown tier', cluster('tier: Middle'), 'spec.tier'],
  [
    'a second baseline',
    object('BaselineAdminNetworkPolicy', { subject: { namespaces: {} } }, 'other'),
    'metadata.name',
  ],
  [
    'Pass in a baseline',
    object('BaselineAdminNetworkPolicy', {
      subject: { namespaces: {} },
      ingress: [{ action: 'Pass', from: [{ namespaces: {} }] }],
    }),
    'spec.ingress[0].action',
  ],
  ['two subjects', admin('subject: {namespaces: {}, pods: {namespaceSelector: {}, podSelector: {}}}'), 'spec.subject'],
  ['no subject', admin('subject: {}'), 'spec.subject'],
  ['pods without namespaces', admin('subject: {pods: {podSelector: {}}}'), 'spec.subject.pods.namespaceSelector'],
  ['Accept in v1alpha1', admin(`ingress: [{action: Accept, from: [${peer}]}]`), 'spec.ingress[0].action'],
  ['Allow in v1alpha2', cluster(`ingress: [{action: Allow, from: [${peer}]}]`), 'spec.ingress[0].action'],
  ['no peers', admin('ingress: [{action: Deny, from: []}]'), 'spec.ingress[0].from'],
  ['an empty peer', admin('ingress: [{action: Deny, from: [{}]}]'), 'spec.ingress[0].from[0]'],
  [
    'sameLabels in v1alpha2',
    cluster('ingress: [{action: Deny, from: [{namespaces: {sameLabels: [a]}}]}]'),
    'spec.ingress[0].from[0].namespaces.sameLabels',
  ],
  ['sameLabels of a subject', admin('subject: {namespaces: {sameLabels: [a]}}'), 'spec.subject.namespaces.sameLabels'],
  [
    'two comparisons',
    admin('ingress: [{action: Deny, from: [{namespaces: {sameLabels: [a], notSameLabels: [b]}}]}]'),
    'spec.ingress[0].from[0].namespaces',
  ],
  [
    'a comparison beside a selector',
    admin('ingress: [{action: Deny, from: [{namespaces: {sameLabels: [a], matchLabels: {b: c}}}]}]'),
    'spec.ingress[0].from[0].namespaces',
  ],
  [
    'what is no label',
    admin('ingress: [{action: Deny, from: [{namespaces: {sameLabels: ["a,b"]}}]}]'),
    'spec.ingress[0].from[0].namespaces.sameLabels[0]',
  ],
  [
    'pods in namespaces told twice',
    admin('ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, namespaces: {}, podSelector: {}}}]}]'),
    'spec.ingress[0].from[0].pods.namespaceSelector',
  ],
  [
    'networks in ingress',
    admin("ingress: [{action: Deny, from: [{networks: ['0.0.0.0/0']}]}]"),
    'spec.ingress[0].from[0].networks',
  ],
  [
    'domain names',
    cluster('egress: [{action: Accept, to: [{domainNames: [a.b]}]}]'),
    'spec.egress[0].to[0].domainNames',
  ],
  [
    'ports in v1alpha2',
    cluster(`egress: [{action: Accept, to: [${peer}], ports: [{portNumber: {port: 80}}]}]`),
    'spec.egress[0].ports',
  ],
  [
    'protocols in v1alpha1',
    admin(`egress: [{action: Allow, to: [${peer}], protocols: []}]`),
    'spec.egress[0].protocols',
  ],
  [
    'an empty protocol',
    cluster(`egress: [{action: Accept, to: [${peer}], protocols: [{tcp: {}}]}]`),
    'spec.egress[0].protocols[0].tcp.destinationPort',
  ],
  ['no ports', admin(`egress: [{action: Allow, to: [${peer}], ports: []}]`), 'spec.egress[0].ports'],
  [
    'a range that descends',
    admin(`egress: [{action: Allow, to: [${peer}], ports: [{portRange: {start: 5, end: 5}}]}]`),
    'spec.egress[0].ports[0].portRange',
  ],
  [
    'a named port of a network',
    admin("egress: [{action: Allow, to: [{networks: ['::/0']}], ports: [{namedPort: web}]}]"),
    'spec.egress[0].to',
  ],
  [
    'a prefix that is none',
    admin('egress: [{action: Allow, to: [{networks: [here]}]}]'),
    'spec.egress[0].to[0].networks[0]',
  ],
];

describe('peers of the first v1alpha1', () => {
  const sourceOf = (peer: string) => {
    const { spec } = parseKubernetes(admin(`ingress: [{action: Deny, name: n, from: [${peer}]}]`));
    return (spec as { ingress: { source: object; metadata?: { annotations: object } }[] }).ingress[0];
  };

  test.each([
    ['{namespaces: {namespaceSelector: {matchLabels: {a: b}}}}', { selector: pods, namespaceSelector: "a == 'b'" }],
    ['{namespaces: {namespaceSelector: {}}}', everywhere],
    [
      '{pods: {namespaces: {namespaceSelector: {}}, podSelector: {matchLabels: {a: b}}}}',
      { selector: `${pods} && a == 'b'`, namespaceSelector: 'all()' },
    ],
    ['{namespaces: {sameLabels: []}}', { selector: pods, namespaceSelector: '!all()' }],
  ])('%s', (peer, source) => {
    expect(sourceOf(peer)).toEqual({
      action: 'Deny',
      source,
      metadata: { annotations: { 'margay.io/rule-name': 'n' } },
    });
  });

  test.each(['sameLabels', 'notSameLabels'])(
    '%s go into an annotation, and the rule selects nothing without it',
    (name) => {
      const annotation = name === 'sameLabels' ? 'margay.io/same-labels' : 'margay.io/not-same-labels';
      expect(sourceOf(`{pods: {namespaces: {${name}: [team, e.com/x]}, podSelector: {}}}`)).toEqual({
        action: 'Deny',
        source: { selector: pods, namespaceSelector: '!all()' },
        metadata: { annotations: { [annotation]: 'team,e.com/x', 'margay.io/rule-name': 'n' } },
      });
    },
  );
});

test.each(wrong)('refused: %s', (_, value, field) => {
  const thrown = (() => {
    try {
      return parseKubernetes(value);
    } catch (error) {
      return error;
    }
  })();
  expect(thrown).toBeInstanceOf(InputError);
  expect((thrown as InputError).field).toBe(`${value.kind}.${field}`);
  expect(kubernetesProblems(value).map((problem) => problem.field)).toContain(`${value.kind}.${field}`);
});

test('where nobody can be told, what is wrong goes into an annotation, and the rest is read', () => {
  const value = cluster(`ingress: [{action: Accept, from: [{moons: {}}]}, {action: Accept, from: [${peer}]}]`);
  const { metadata, spec } = readKubernetes(value);
  expect((spec as { ingress: object[] }).ingress).toHaveLength(1);
  const told = JSON.parse(metadata.annotations?.['margay.io/problems'] ?? '') as { field: string }[];
  expect(told.map(({ field }) => field)).toEqual(kubernetesProblems(value).map(({ field }) => field));
  const sound = cluster(`ingress: [{action: Accept, from: [${peer}]}]`);
  expect(readKubernetes(sound)).toEqual(parseKubernetes(sound));
});

describe('a rule that cannot be understood', () => {
  const read = (ingress: string) => {
    const { policy, problems } = readClusterPolicy('ClusterNetworkPolicy', cluster(`ingress: ${ingress}`));
    return [policy.spec.ingress?.map(({ action, source }) => [action, source !== undefined]), problems.length];
  };

  test('matches nothing when it accepts', () => {
    expect(read(`[{action: Accept, from: [{moons: {}}]}, {action: Accept, from: [${peer}]}]`)).toEqual([
      [['Allow', true]],
      2,
    ]);
    expect(read(`[{action: Accept, from: [${peer}, {}]}]`)).toEqual([[], 1]);
  });

  test.each(['Deny', 'Pass', 'Moon'])('denies everything when it says %s', (action) => {
    expect(
      read(`[{action: Accept, from: [${peer}]}, {action: ${action}, from: [{}]}, {action: Accept, from: [${peer}]}]`),
    ).toMatchObject([
      [
        ['Allow', true],
        ['Deny', false],
      ],
      action === 'Moon' ? 2 : 1,
    ]);
  });
});
