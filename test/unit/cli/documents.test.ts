import { describe, expect, test } from 'vitest';
import { readManifests } from '../../../src/cli/documents.ts';
import { validate } from '../../../src/cli/validate.ts';

const namespace = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n';
const pool = 'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.0.0/16}\n';

const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {}
  ingress:
    - from:
        - podSelectors: {}
`;
const calico = (spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n${spec}`;
const noSpec = 'apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: p}\n';
const indented = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line, at) => `${at === 0 ? '  - ' : '    '}${line}`)
    .join('\n');

describe('manifests', () => {
  test('several documents, Kubernetes kinds and ours; empty documents are skipped', () => {
    const found = readManifests(`---\n${namespace}---\n---\n# nothing\n---\n${pool}`, 'a.yaml', 'default');
    expect(found.map(({ title }) => title)).toEqual(['Namespace shop', 'IPPool p']);
    expect(found.map(({ key }) => key)).toEqual([
      { type: 'Profile', name: 'kns.shop' },
      { type: 'IPPool', name: 'p' },
    ]);
    expect(found.map(({ where }) => where)).toEqual(['a.yaml:2', 'a.yaml:9']);
  });

  test('a List is taken apart', () => {
    const items = [JSON.parse('{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}')];
    const text = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    expect(readManifests(text, 'a.json', 'default').map(({ title }) => title)).toEqual(['Namespace a']);
    expect(() => readManifests('kind: List\nitems: 3\n', 'a', 'default')).toThrow('a:1: items: 3: expected a list');
  });

  test('a namespaced kind without a namespace takes the default one', () => {
    const text = 'apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: x}\nspec: {}\n';
    expect(readManifests(text, 'a', 'shop')[0]?.key).toEqual({ type: 'NetworkPolicy', namespace: 'shop', name: 'x' });
  });

  test.each([
    ['unreadable YAML names the line', 'a: [1\nb: 2\n', /^f:2: .*expected readable YAML/],
    [
      'a wrong field is named with file, line and value',
      `${namespace}---\n${pool.replace('10.1.0.0/16', 'ten')}`,
      /^f:8: spec\.cidr: "ten"/,
    ],
    ['an unknown kind', 'apiVersion: v1\nkind: Gadget\n', /^f:2: kind: "Gadget": expected/],
    [
      'another version of our kinds',
      pool.replace('v3', 'v9'),
      /apiVersion: "projectcalico.org\/v9": expected projectcalico.org\/v3/,
    ],
    ['a scalar', '42\n', /^f:1: document: 42/],
    ['a duplicate key', 'kind: A\nkind: B\n', /^f:2: .*unique/],
  ])('%s', (_, text, message) => {
    expect(() => readManifests(text, 'f', 'default')).toThrow(message);
  });

  test.each([
    ['an unknown field of a policy', `${namespace}---\n${policy}`],
    ['one in a list', `kind: List\nitems:\n${indented(policy)}`],
    [
      'a misspelt selector',
      "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec:\n  selecter: app == 'x'\n",
    ],
    ['a field outside of spec', pool.replace('spec:', 'sepc: {}\nspec:')],
    ['a selector that nobody can read', calico("  selector: app == 'x\n")],
    ['an address in a rule that is none', calico('  ingress:\n  - {action: Deny, source: {nets: [10.0.0.0/40]}}\n')],
    ['ports without a protocol', calico('  ingress:\n  - {action: Allow, destination: {ports: [80]}}\n')],
    ['a selector of a staged policy', calico('  selector: has(\n').replace('NetworkPolicy', 'StagedNetworkPolicy')],
    [
      'a rule of a profile',
      calico('  ingress:\n  - {action: Allow, source: {nets: [x]}}\n').replace('NetworkPolicy', 'Profile'),
    ],
    ['an annotation', pool.replace('{name: p}', '\n  name: p\n  annotations: {margay.io/tunnelFallback: GRE}')],
    ['a wrong value', `${pool}---\n${pool.replace('10.1.0.0/16', 'ten')}`],
    ['a missing field', `${pool}---\n${noSpec}`],
    [
      'a missing namespace',
      'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p, namespace: x}\nspec: {cidr: 10.0.0.0/8}\n',
    ],
  ])('apply names the place that validate names: %s', (_, text) => {
    const [finding] = validate([{ file: 'f', text }], 'default');
    const { line, field, found, expected } = finding ?? expect.fail('validate found nothing');
    expect(() => readManifests(text, 'f', 'default')).toThrow(`f:${line}: ${field}: ${found}: expected ${expected}`);
    expect(line).toBeGreaterThan(1);
  });

  test('what is to be deleted need not be followed', () => {
    const text = calico("  selector: app == 'x\n");
    expect(readManifests(text, 'f', 'default', () => []).map(({ title }) => title)).toEqual([
      'NetworkPolicy default/p',
    ]);
  });

  test('aliases that multiply without end are refused, quickly', () => {
    const levels = Array.from(
      { length: 12 },
      (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(',')}]`,
    );
    expect(() => readManifests(`a0: &a0 [x]\n${levels.join('\n')}\n`, 'bomb', 'default')).toThrow('bomb:12: "aliases"');
  });

  test('a text of unbounded size is refused before it is parsed', () => {
    expect(() => readManifests('#'.repeat(9 << 20), 'big', 'default')).toThrow(/big: .*octets.*expected at most/);
  });
});
