import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { chart } from '../../../scripts/manifests/chart.ts';
import { emit } from '../../../scripts/manifests/tree.ts';
import { valuesOf, variants } from '../../../scripts/manifests/values.ts';
import { valuesSchema, variables } from '../../../scripts/manifests/values-schema.ts';
import { render } from '../../support/go-template.ts';
import { daemonSetSchema } from '../../support/kubernetes/daemon-set.ts';
import { variablesRead } from '../../support/variables.ts';

const root = join(import.meta.dirname, '../../..');
const folder = join(root, 'deploy/chart');
const stored = (file: string) => readFileSync(join(folder, file), 'utf8');
const templates = readdirSync(join(folder, 'templates')).map((file) => stored(join('templates', file)));
const defaults = parse(stored('values.yaml'));

interface Installed {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** The chart's objects by kind, as helm would send them. */
function install(values: object, namespace = 'kube-system'): Record<string, Installed> {
  const context = { Values: values as Record<string, unknown>, Release: { Namespace: namespace } };
  return byKind(templates.map((template) => render(template, context)).join('---\n'));
}

function byKind(text: string): Record<string, Installed> {
  const documents = parseAllDocuments(text);
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  const objects: Installed[] = documents.map((each) => each.toJS()).filter((each) => each !== null);
  return Object.fromEntries(objects.map((each) => [nameOf(each), each]));
}

/** `DaemonSet`, `controllers ClusterRole` */
function nameOf({ kind, metadata }: Installed): string {
  const part = /^margay-(controllers|cni-plugin)$/.exec(metadata.name)?.[1];
  return part === undefined ? kind : `${part} ${kind}`;
}

test('the chart is what `npm run manifests` makes, and has the definitions of deploy/crds', () => {
  const files = [...readdirSync(folder), ...readdirSync(join(folder, 'templates')).map((file) => `templates/${file}`)];
  expect(files.sort()).toEqual([...chart().keys(), 'crds', 'templates'].sort());
  for (const [file, text] of chart()) expect(stored(file), `${file}: run \`npm run manifests\``).toBe(text);
  expect(realpathSync(join(folder, 'crds'))).toBe(realpathSync(join(root, 'deploy/crds')));
});

test('chart, image and package have one version', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  expect(parse(stored('Chart.yaml'))).toMatchObject({ apiVersion: 'v2', name: 'margay', version, appVersion: version });
  expect(defaults.image).toBe(`margay:${version}`);
});

/** A workload as the plain manifest has it, once the digest of its settings is looked at. */
function withoutDigest(installed: Installed | undefined): unknown {
  const copy = structuredClone(installed) as unknown as { spec: { template: { metadata: { annotations?: unknown } } } };
  const { annotations, ...metadata } = copy.spec.template.metadata;
  expect(annotations).toEqual({ 'checksum/config': expect.stringMatching(/^[0-9a-f]{64}$/) });
  copy.spec.template.metadata = metadata;
  return copy;
}

describe.each(Object.entries(variants))('with the values of %s', (file, variant) => {
  const values = parse(emit(valuesOf(variant)));

  test('the schema admits them', () => expect(valuesSchema.safeParse(values).error).toBeUndefined());

  test('it makes the objects of the plain manifest', () => {
    const manifest = byKind(readFileSync(join(root, 'deploy', file), 'utf8'));
    const { DaemonSet, 'controllers Deployment': deployment, ...others } = install(values);
    const agent = withoutDigest(DaemonSet);
    const controllers = withoutDigest(deployment);
    expect({ DaemonSet: agent, 'controllers Deployment': controllers, ...others }).toEqual(manifest);
  });
});

test('a release has its own namespace, secrets and settings, and new settings start the Pods again', () => {
  const own = {
    ...defaults,
    ...{ image: `registry.example:5000/margay@sha256:${'a'.repeat(64)}`, imagePullSecrets: [{ name: 'registry' }] },
    ...{ bgp: { ...defaults.bgp, secret: 'bgp-passwords' }, config: { ...defaults.config, AS: '64513' } },
  };
  expect(valuesSchema.safeParse(own).error).toBeUndefined();
  const objects = install(own, 'network');
  for (const kind of ['ServiceAccount', 'ConfigMap', 'DaemonSet'])
    expect(objects[kind]?.metadata.namespace).toBe('network');
  expect(objects['ClusterRoleBinding']).toMatchObject({ subjects: [{ namespace: 'network' }] });
  expect(objects['ConfigMap']).toMatchObject({ data: { AS: '64513', IP: 'autodetect' } });
  const template = (installed: Installed | undefined) => daemonSetSchema.parse(installed).spec.template;
  const { metadata, spec } = template(objects['DaemonSet']);
  expect(metadata.annotations).not.toEqual(template(install(defaults)['DaemonSet']).metadata.annotations);
  expect(spec.imagePullSecrets).toEqual([{ name: 'registry' }]);
  const bgp = spec.containers.find(({ name }) => name === 'bgp');
  expect(bgp?.env).toContainEqual({ name: 'MARGAY_SECRETS_DIR', value: '/etc/margay/secrets' });
  const mountPath = '/etc/margay/secrets/bgp-passwords';
  expect(bgp?.volumeMounts).toContainEqual({ name: 'bgp-secrets', mountPath, readOnly: true });
});

test('the roles are about the groups that a cluster has', () => {
  const native = { ...defaults, calicoGroups: ['projectcalico.org'] };
  expect(valuesSchema.safeParse(native).error).toBeUndefined();
  const roles = Object.entries(install(native)).filter(([name]) => name.endsWith('ClusterRole'));
  const groups = roles.flatMap(([, role]) => (role as unknown as { rules: { apiGroups?: string[] }[] }).rules);
  expect(new Set(groups.flatMap(({ apiGroups = [] }) => apiGroups).filter((each) => each.includes('calico')))).toEqual(
    new Set(['projectcalico.org']),
  );
});

test.each([
  ['a group that Calico has not', { calicoGroups: ['*'] }],
  ['a misspelt variable', { config: { ...defaults.config, FELIX_IPV6SUPORT: 'true' } }],
  ['a number where the API asks for text', { config: { ...defaults.config, AS: 64513 } }],
  ['another health port than the probes ask', { config: { ...defaults.config, FELIX_HEALTHPORT: '9199' } }],
  ['a backend that there is not', { config: { ...defaults.config, CALICO_NETWORKING_BACKEND: 'wireguard' } }],
  ['a Secret that leads elsewhere', { bgp: { ...defaults.bgp, secret: '../etcd' } }],
  ['an unknown value', { replicas: 3 }],
])('the schema refuses %s', (_what, change) => {
  expect(valuesSchema.safeParse({ ...defaults, ...change }).success).toBe(false);
});

test('the variables that the schema admits are those that the programs read', () => {
  const read = variablesRead();
  expect(variables.filter((name) => !read.has(name))).toEqual([]);
});
