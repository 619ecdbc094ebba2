import { InputError } from '../base/errors.ts';
import type { Key } from '../datastore/store.ts';
import { clusterPolicyName, clusterPolicyScope } from '../model/kubernetes/cluster-policy.ts';
import { both } from '../model/selector.ts';
import { type CompiledPolicy, hostsOnly } from './compile.ts';
import type { Rule } from './ir.ts';
import { defaultTypes, policyName, policyTitle, scopeSelector, sortKey, type Types } from './scope.ts';

type PolicyKey = Key<'NetworkPolicy'> | Key<'GlobalNetworkPolicy'>;

/**
 * Stands for a policy whose stored value does not pass the checks. What it can select is isolated in the directions
 * that it can be about: its selectors and types count where they can be read, since whatever else is wrong they only
 * ever narrow. A policy of Kubernetes only ever allows, so that others may still allow beside it; any other may have
 * denied, so nothing may.
 * @param value what is stored, undefined when it is no JSON
 */
export function unreadablePolicy({ type, name, namespace }: PolicyKey, value: unknown): CompiledPolicy {
  const spec = record(record(value)['spec']);
  const allowsOnly = type === 'NetworkPolicy' && name.startsWith('knp.default.');
  const rules: Rule[] = allowsOnly ? [] : [{ action: 'deny', match: {}, index: 0 }];
  const ofHosts = type === 'GlobalNetworkPolicy' && (spec['doNotTrack'] === true || spec['preDNAT'] === true);
  const types = typesOf(spec);
  // In the Kubernetes API the value is as its author wrote it.
  const selectors = isClusterPolicy(name) && 'subject' in spec ? clusterPolicyScope(value) : selectorsOf(spec);
  const scope = scopeSelector({ namespace, ...selectors }, 'spec', readable);
  return {
    tier: 'default',
    order: allowsOnly ? 1000 : Number.NEGATIVE_INFINITY,
    sortKey: sortKey(type, name, namespace),
    // Denied after connection tracking, so that what stands goes on.
    selector: ofHosts ? both(scope, hostsOnly) : scope,
    ingress: types.includes('Ingress'),
    egress: types.includes('Egress'),
    forward: ofHosts || (spec['applyOnForward'] !== undefined && spec['applyOnForward'] !== false),
    rules: {
      name: policyName(name, namespace),
      title: policyTitle(type, name, namespace),
      ingress: rules,
      egress: rules,
    },
    requests: [],
    problems: [],
  };
}

function isClusterPolicy(name: string): boolean {
  return clusterPolicyName(name) !== undefined;
}

function selectorsOf({ selector, namespaceSelector, serviceAccountSelector }: Record<string, unknown>) {
  return { selector, namespaceSelector, serviceAccountSelector };
}

/** Both unless the value clearly says otherwise. */
function typesOf({ types, ingress, egress }: Record<string, unknown>): Types {
  const named = Array.isArray(types) ? types.filter((type) => type === 'Ingress' || type === 'Egress') : [];
  if (Array.isArray(types) && types.length > 0 && named.length === types.length) return named;
  const absentOrList = (rules: unknown) => rules === undefined || Array.isArray(rules);
  const shown =
    types === undefined && absentOrList(ingress) && absentOrList(egress) && (ingress ?? egress) !== undefined;
  return shown ? defaultTypes({ ingress, egress }) : ['Ingress', 'Egress'];
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function readable<T>(part: () => T): T | undefined {
  try {
    return part();
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
