import { expect, test } from 'vitest';
import { eventOf } from '../../../src/cli/cluster-objects.ts';
import { readManifests } from '../../../src/cli/documents.ts';
import { resultPage } from '../../../src/cli/policy.ts';
import { podEvents, readCases, runCases } from '../../../src/cli/policy-cases.ts';

const manifests = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}]
`;
const text = `pods:
- {name: web, labels: {app: web}}
- {name: db, labels: {app: db}, ports: [{name: sql, port: 5432}]}
cases:
- {from: web, to: "db:5432", expect: allow}
- {name: not the rest, from: web, to: "db:80", expect: deny}
- {from: 198.51.100.1, to: "db:5432", expect: allow}
`;

function results(cases = text) {
  const read = readCases(cases, 'cases.yaml');
  const cluster = readManifests(manifests, 'f', 'shop').map(eventOf);
  return runCases(read, [...cluster, ...podEvents(read, 'shop')], 'shop');
}

test('cases pass or fail, and those that fail say why', () => {
  expect(results().map(({ name, passed }) => [name, passed])).toEqual([
    ['web -> db:5432', true],
    ['not the rest', true],
    ['198.51.100.1 -> db:5432', false],
  ]);
  const page = resultPage(results());
  expect(page).toContain('ok   not the rest: deny\n');
  expect(page).toContain('FAIL 198.51.100.1 -> db:5432: expected allow, found deny\n     198.51.100.1 -> shop/db');
  expect(page).toContain('wants source selector');
  expect(page).toMatch(/\n2 of 3 as expected\n$/);
});

test.each([
  [
    'a wrong expectation',
    text.replace('expect: deny', 'expect: drop'),
    /^cases\.yaml:6: cases\[1\]\.expect: "drop": expected one of allow, deny$/,
  ],
  ['an unknown field', text.replace('name: not', 'nome: not'), /cases\[1\]\.nome: .*no such field/],
  ['no cases', 'pods: []\n', /^cases\.yaml:1: cases: missing: expected a list/],
  [
    'a pod that is nowhere',
    text.replace('from: web, to: "db:80"', 'from: wob, to: "db:80"'),
    /^cases\.yaml:6: cases\[1\]\.from: "shop\/wob"/,
  ],
  ['an end without a port', text.replace('db:80', 'db'), /^cases\.yaml:6: cases\[1\]\.to: "db"/],
  [
    'an address that is none',
    text.replace('{name: web,', '{name: web, address: 10.0.0.300,'),
    /^cases\.yaml:2: pods\[0\]\.address: "10\.0\.0\.300"/,
  ],
  ['two documents', `${text}---\n${text}`, /^cases\.yaml: "2 documents": expected one document/],
  ['nothing', '', /^cases\.yaml: "0 documents"/],
  ['a list', '- a\n', /^cases\.yaml:1: document: \["a"\]: expected an object/],
  ['broken YAML', 'a: [\n', /^cases\.yaml:2: .*: expected readable YAML/],
])('%s', (_, cases, message) => {
  expect(() => results(cases)).toThrow(message);
});
