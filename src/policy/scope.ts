import type { GlobalNetworkPolicy, NetworkPolicy } from '../model/kinds.ts';
import { kubernetesName } from '../model/kubernetes.ts';
import {
  both,
  equals,
  namespaceLabel,
  namespaceSelector,
  parseSelector,
  type Selector,
  serviceAccountSelector,
} from '../model/selector.ts';

/* What a policy is called, and what it selects. */

export type AnyPolicy = NetworkPolicy | GlobalNetworkPolicy;
export type PolicyKind = AnyPolicy['kind'];

/** Name in the intermediate form: `shop/web`, and for global ones `web`. */
export function policyName(name: string, namespace: string | undefined): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** Breaks ties between equal orders. */
export function sortKey(kind: PolicyKind, name: string, namespace: string | undefined): string {
  return `${name}/${namespace ?? ''}/${kind}`;
}

/** As a person calls it. */
export function policyTitle(kind: PolicyKind, name: string, namespace: string | undefined): string {
  const kubernetes = kubernetesName(kind, name);
  if (kind === 'GlobalNetworkPolicy') return `${kubernetes?.kind ?? kind} ${kubernetes?.name ?? name}`;
  return kubernetes
    ? `NetworkPolicy ${namespace}/${kubernetes.name}`
    : `NetworkPolicy.projectcalico.org ${namespace}/${name}`;
}

/** The selectors of a policy, as far as they are known: anything but text restricts nothing. */
export interface Scope {
  readonly namespace?: string | undefined;
  readonly selector?: unknown;
  readonly namespaceSelector?: unknown;
  readonly serviceAccountSelector?: unknown;
}

/**
 * Selects the endpoints that a policy is about. A selector that cannot be read restricts nothing, so that the result
 * holds everything that the policy could be meant for.
 * @param tolerate runs a part, and remembers what it throws
 */
export function scopeSelector(
  { namespace, ...scope }: Scope,
  where: string,
  tolerate: (part: () => Selector) => Selector | undefined,
): Selector {
  const read = (name: keyof typeof scope, as: (selector: Selector) => Selector) => {
    const text = scope[name];
    return typeof text === 'string' && text !== ''
      ? tolerate(() => as(parseSelector(text, `${where}.${name}`)))
      : undefined;
  };
  const parts = [
    read('selector', (selector) => selector),
    namespace === undefined ? undefined : equals(namespaceLabel, namespace),
    namespace === undefined ? read('namespaceSelector', namespaceSelector) : undefined,
    read('serviceAccountSelector', serviceAccountSelector),
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? parseSelector('all()') : parts.reduce(both);
}

export type Types = readonly ('Ingress' | 'Egress')[];

/** The directions that a policy's rules show; with none, ingress (Calico's own kind, unlike Kubernetes'). */
export function defaultTypes({ ingress, egress }: { ingress?: unknown; egress?: unknown }): Types {
  const some = (rules: unknown) => Array.isArray(rules) && rules.length > 0;
  if (!some(egress)) return ['Ingress'];
  return some(ingress) ? ['Ingress', 'Egress'] : ['Egress'];
}
