import type { V1LabelSelector, V1NetworkPolicyPort, V1NetworkPolicySpec } from '@kubernetes/client-node';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { parse } from 'yaml';
import { InputError } from '../../../src/base/errors.ts';
import type { LabelSelector, NetworkPolicySpec, PolicyPort } from '../../../src/model/kubernetes/schema.ts';
import { isKubernetesObject, kubernetesName, parseKubernetes } from '../../../src/model/kubernetes.ts';
import type { PolicyRule } from '../../../src/model/policy.ts';

const policy = (spec: unknown, metadata: unknown = { name: 'web', namespace: 'shop' }) => ({
  kind: 'NetworkPolicy',
  apiVersion: 'networking.k8s.io/v1',
  metadata,
  spec,
});
const convert = (yaml: string) => parseKubernetes(policy(parse(yaml))).spec;
const pods = "projectcalico.org/orchestrator == 'k8s'";

test('the schemas know the fields of the Kubernetes API', () => {
  expectTypeOf<keyof LabelSelector>().toEqualTypeOf<keyof V1LabelSelector>();
  expectTypeOf<keyof PolicyPort>().toEqualTypeOf<keyof V1NetworkPolicyPort>();
  expectTypeOf<keyof NetworkPolicySpec>().toEqualTypeOf<keyof V1NetworkPolicySpec>();
});

test('name, tier, order and selector', () => {
  expect(parseKubernetes(policy({ podSelector: { matchLabels: { b: '2', a: '1' } } }))).toEqual({
    kind: 'NetworkPolicy',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'knp.default.web', namespace: 'shop' },
    spec: {
      tier: 'default',
      order: 1000,
      selector: `${pods} && a == '1' && b == '2'`,
      types: ['Ingress'],
      ingress: [],
      egress: [],
    },
  });
  expect(parseKubernetes(policy({ podSelector: {} }, { name: 'x' })).metadata.namespace).toBe('default');
});

test.each([
  ['podSelector: {}', ['Ingress']],
  ['{podSelector: {}, policyTypes: []}', ['Ingress']],
  ['{podSelector: {}, egress: []}', ['Ingress']],
  ['{podSelector: {}, egress: [{}]}', ['Ingress', 'Egress']],
  ['{podSelector: {}, egress: [{}], policyTypes: [Egress]}', ['Egress']],
  ['{podSelector: {}, ingress: [{}], policyTypes: [Egress, Ingress]}', ['Egress', 'Ingress']],
])('policyTypes of %s', (yaml, types) => {
  expect(convert(yaml)).toMatchObject({ types });
});

describe('ingress rules', () => {
  test.each<[string, unknown[]]>([
    ['[]', []],
    ['[{}]', [{ action: 'Allow' }]],
    ['[{from: [], ports: null}]', [{ action: 'Allow' }]],
    ['[{ports: [{}]}]', [{ action: 'Allow', protocol: 'TCP' }]],
    [
      '[{ports: [{port: 80}, {port: web}, {port: 90, endPort: 99}, {port: 7, endPort: 7}, {protocol: UDP, port: 53}]}]',
      [
        { action: 'Allow', protocol: 'TCP', destination: { ports: [80, 'web', '90:99', 7] } },
        { action: 'Allow', protocol: 'UDP', destination: { ports: [53] } },
      ],
    ],
    ['[{ports: [{port: 80}, {protocol: TCP}]}]', [{ action: 'Allow', protocol: 'TCP' }]],
    ['[{from: [{podSelector: {}}]}]', [{ action: 'Allow', source: { selector: pods } }]],
    [
      '[{from: [{namespaceSelector: {}}]}]',
      [{ action: 'Allow', source: { selector: pods, namespaceSelector: 'all()' } }],
    ],
    [
      `[{from: [{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchExpressions: [
         {key: x, operator: In, values: [b, a]}, {key: x, operator: NotIn, values: [c]},
         {key: y, operator: Exists}, {key: z, operator: DoesNotExist, values: []}]}}]}]`,
      [
        {
          action: 'Allow',
          source: {
            selector: `${pods} && x in {'b', 'a'} && x not in {'c'} && has(y) && !has(z)`,
            namespaceSelector: "team == 'a'",
          },
        },
      ],
    ],
    [
      '[{from: [{ipBlock: {cidr: 10.1.2.3/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: "fd00::1/8"}}]}]',
      [
        { action: 'Allow', source: { nets: ['10.0.0.0/8'], notNets: ['10.1.0.0/16'] } },
        { action: 'Allow', source: { nets: ['fd00::/8'] } },
      ],
    ],
    [
      '[{from: [{podSelector: {matchLabels: {constructor: x}}}]}]',
      [{ action: 'Allow', source: { selector: `${pods} && constructor == 'x'` } }],
    ],
  ])('%s', (yaml, ingress) => {
    expect(convert(`{podSelector: {}, ingress: ${yaml}}`)).toMatchObject({ ingress });
  });
});

test('egress: peer and ports are both of the destination', () => {
  expect(convert('{podSelector: {}, egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}, {ports: [{}]}]}')).toEqual(
    expect.objectContaining({
      egress: [
        { action: 'Allow', protocol: 'TCP', destination: { selector: pods, ports: [80] } },
        { action: 'Allow', protocol: 'TCP' },
      ],
    }),
  );
});

describe('refused, with the field named', () => {
  test.each([
    ['{podSelector: {}, ingres: []}', 'NetworkPolicy.spec.ingres'],
    ['{podSelector: {matchLabel: {a: b}}}', 'NetworkPolicy.spec.podSelector.matchLabel'],
    ['{podSelector: {matchLabels: {a: null}}}', 'NetworkPolicy.spec.podSelector.matchLabels.a'],
    ['{podSelector: {matchLabels: {a: 1}}}', 'NetworkPolicy.spec.podSelector.matchLabels.a'],
    ['{podSelector: {matchLabels: {a: "x\' || has(a)"}}}', 'NetworkPolicy.spec.podSelector.matchLabels.a'],
    ['{podSelector: {matchLabels: {"a b": x}}}', 'NetworkPolicy.spec.podSelector.matchLabels.a b'],
    ['{podSelector: {matchLabels: {__proto__: x}}}', 'NetworkPolicy.spec.podSelector.matchLabels.__proto__'],
    [
      '{podSelector: {matchExpressions: [{key: a, operator: In}]}}',
      'NetworkPolicy.spec.podSelector.matchExpressions[0].values',
    ],
    [
      '{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}',
      'NetworkPolicy.spec.podSelector.matchExpressions[0].values',
    ],
    [
      '{podSelector: {matchExpressions: [{key: a, operator: in, values: [x]}]}}',
      'NetworkPolicy.spec.podSelector.matchExpressions[0].operator',
    ],
    ['{podSelector: {}, policyTypes: [ingress]}', 'NetworkPolicy.spec.policyTypes[0]'],
    ['{podSelector: {}, ingress: [{to: []}]}', 'NetworkPolicy.spec.ingress[0].to'],
    ['{podSelector: {}, ingress: [null]}', 'NetworkPolicy.spec.ingress[0]'],
    ['{podSelector: {}, ingress: [{from: [{}]}]}', 'NetworkPolicy.spec.ingress[0].from[0]'],
    ['{podSelector: {}, ingress: [{from: [null]}]}', 'NetworkPolicy.spec.ingress[0].from[0]'],
    [
      '{podSelector: {}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}',
      'NetworkPolicy.spec.ingress[0].from[0]',
    ],
    [
      '{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}',
      'NetworkPolicy.spec.ingress[0].from[0].ipBlock.cidr',
    ],
    [
      '{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}',
      'NetworkPolicy.spec.egress[0].to[0].ipBlock.except[0]',
    ],
    ['{podSelector: {}, egress: [{ports: [{port: 0}]}]}', 'NetworkPolicy.spec.egress[0].ports[0].port'],
    ['{podSelector: {}, egress: [{ports: [{port: "80"}]}]}', 'NetworkPolicy.spec.egress[0].ports[0].port'],
    [
      '{podSelector: {}, egress: [{ports: [{port: 80, endPort: 79}]}]}',
      'NetworkPolicy.spec.egress[0].ports[0].endPort',
    ],
    ['{podSelector: {}, egress: [{ports: [{port: a, endPort: 79}]}]}', 'NetworkPolicy.spec.egress[0].ports[0].endPort'],
    ['{podSelector: {}, egress: [{ports: [{endPort: 79}]}]}', 'NetworkPolicy.spec.egress[0].ports[0].endPort'],
    ['{podSelector: {}, egress: [{ports: [{protocol: tcp}]}]}', 'NetworkPolicy.spec.egress[0].ports[0].protocol'],
    ['null', 'NetworkPolicy.spec'],
  ])('%s', (yaml, field) => {
    expect(() => convert(yaml)).toThrow(expect.objectContaining({ name: 'InputError', field }));
  });

  test('a name that leaves no room for the prefix', () => {
    expect(() => parseKubernetes(policy({ podSelector: {} }, { name: 'a'.repeat(242) }))).toThrow(InputError);
  });

  test('nesting without end', () => {
    let deep: unknown = 'x';
    for (let i = 0; i < 100_000; i++) deep = [deep];
    expect(() => parseKubernetes(policy({ podSelector: deep }))).toThrow(InputError);
  });

  test.each([[undefined], [null], ['x'], [{}], [{ kind: 'Pod', apiVersion: 'v1' }]])(
    '%j is of no known kind',
    (value) => {
      expect(isKubernetesObject(value)).toBe(false);
      expect(() => parseKubernetes(value)).toThrow(expect.objectContaining({ name: 'InputError', field: 'kind' }));
    },
  );
});

test('a namespace becomes a profile that allows all and gives its labels', () => {
  const value = { kind: 'Namespace', apiVersion: 'v1', metadata: { name: 'shop', labels: { team: 'a' } }, spec: {} };
  expect(parseKubernetes(value)).toMatchObject({
    kind: 'Profile',
    metadata: { name: 'kns.shop' },
    spec: {
      ingress: [{ action: 'Allow' }],
      egress: [{ action: 'Allow' }],
      labelsToApply: {
        'pcns.team': 'a',
        'pcns.kubernetes.io/metadata.name': 'shop',
        'pcns.projectcalico.org/name': 'shop',
      },
    },
  });
});

test('a service account becomes a profile of labels', () => {
  const value = { kind: 'ServiceAccount', apiVersion: 'v1', metadata: { name: 'cart.v1', namespace: 'shop' } };
  expect(parseKubernetes(value)).toMatchObject({
    metadata: { name: 'ksa.shop.cart.v1' },
    spec: { labelsToApply: { 'pcsa.projectcalico.org/name': 'cart.v1' } },
  });
});

test.each([
  ['NetworkPolicy', 'knp.default.web', { kind: 'NetworkPolicy', name: 'web' }],
  ['NetworkPolicy', 'web', undefined],
  ['Profile', 'kns.shop', { kind: 'Namespace', name: 'shop' }],
  ['Profile', 'ksa.shop.cart.v1', { kind: 'ServiceAccount', namespace: 'shop', name: 'cart.v1' }],
  ['Profile', 'other', undefined],
  ['Node', 'kns.x', undefined],
])('%s %s as Kubernetes calls it', (kind, name, expected) => {
  expect(kubernetesName(kind, name)).toEqual(expected);
});

test('a rule that stands for part of one tells where that was written, where its own place does not', () => {
  const spec = convert(
    '{podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}, {ports: [{}, {protocol: UDP}]}]}',
  );
  const { ingress = [] } = spec as { ingress?: readonly PolicyRule[] };
  expect(ingress.map(({ metadata }) => metadata?.annotations?.['margay.io/rule'])).toEqual([undefined, '0', '1', '1']);
});
