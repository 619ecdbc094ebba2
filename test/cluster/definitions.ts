import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { render } from '../support/go-template.ts';
import { v3Resources } from '../support/kubernetes/objects.ts';
import type { ControlPlane } from './control-plane.ts';

export const deploy = join(import.meta.dirname, '../../deploy');

/** Applies deploy/crds, and waits until the server serves them all. */
export async function applyDefinitions(cluster: ControlPlane): Promise<void> {
  await cluster.run(['apply', '-f', join(deploy, 'crds')]);
  await established(cluster);
}

/** Calico's kinds as native definitions of projectcalico.org/v3, which take any fields: its own are not shipped here. */
export async function applyNativeDefinitions(cluster: ControlPlane): Promise<void> {
  const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const definitions = v3Resources.map(({ group, version, kind, plural, namespaced }) => ({
    ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
      scope: namespaced ? 'Namespaced' : 'Cluster',
      versions: [{ name: version, served: true, storage: true, schema: { openAPIV3Schema: anything } }],
    },
  }));
  await cluster.apply(...definitions);
  await established(cluster);
}

function established(cluster: ControlPlane): Promise<string> {
  return cluster.run(['wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all']);
}

/** An object as a manifest has it. */
export interface Installed {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

/** The plain manifests by name, and the chart with its default values. */
export const manifests: readonly string[] = [...readdirSync(deploy).filter((file) => file.endsWith('.yaml')), 'chart'];

/**
 * The objects of a manifest as this version of Kubernetes takes them: all as they are but for the PodDisruptionBudget,
 * whose policy/v1 came with 1.21; 1.20 has the same fields in policy/v1beta1.
 * @param values of the chart
 */
export function objectsOf(manifest: string, values: Values = {}): Installed[] {
  const text = manifest === 'chart' ? renderedChart(values) : readFileSync(join(deploy, manifest), 'utf8');
  const objects: (Installed | null)[] = parseAllDocuments(text).map((document) => document.toJS());
  return objects
    .filter((object) => object !== null)
    .map((object) => (object.kind === 'PodDisruptionBudget' ? { ...object, apiVersion: 'policy/v1beta1' } : object));
}

/** Values of the chart; what is not named keeps its default, of a map each field by itself. */
type Values = Readonly<Record<string, unknown>>;

function renderedChart(values: Values): string {
  const folder = join(deploy, 'chart/templates');
  const defaults = parse(readFileSync(join(deploy, 'chart/values.yaml'), 'utf8')) as Values;
  const isMap = (value: unknown): value is Values =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const all = Object.entries({ ...defaults, ...values }).map(([name, value]): [string, unknown] => {
    const own = defaults[name];
    return [name, isMap(own) && isMap(value) ? { ...own, ...value } : value];
  });
  const context = { Values: Object.fromEntries(all), Release: { Namespace: 'kube-system' } };
  return readdirSync(folder)
    .map((file) => render(readFileSync(join(folder, file), 'utf8'), context))
    .join('---\n');
}
