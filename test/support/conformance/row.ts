import type { Event } from '../../../src/datastore/store.ts';
import { readClusterPolicy } from '../../../src/model/kubernetes/cluster-policy.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import { calicoEvent, calicoPolicyEvent, policyEvent, set } from '../cluster.ts';
import type { Pod, Policy } from '../oracle.ts';

/*
 * What the specifications say, as tables of connections that are made or not. In namespace one (label tier x) are pod-0
 * (app a, port web TCP 80) and pod-1 (app b, web TCP 8080), in two is pod-2 (app a, team x, web TCP 8080). `outside` is
 * 192.0.2.130 and fd00::8, `host` the pods' node beyond its device `uplink`.
 */

export interface Row {
  readonly title: string;
  readonly objects: readonly Event[];
  /** `from > to protocol port`, or `from > to ICMP`, `ICMP/1` for code 1, `GRE`; by both families, or that of addresses. */
  readonly open: readonly string[];
  readonly closed: readonly string[];
  /** What is said of the objects; absent: nothing. */
  readonly problems?: readonly string[];
  /** What pods have otherwise. */
  readonly pods?: Readonly<Record<string, Partial<Pod>>>;
  /** Labels of namespaces besides their own. */
  readonly namespaces?: Readonly<Record<string, Record<string, string>>>;
}

/** Addresses that pod-0 has besides its first of each family. */
export const moreAddresses = ['10.65.1.1', 'fd00:0:0:1::1'];

/** A NetworkPolicy of Kubernetes in namespace one. */
export const kubernetes = (name: string, spec: Policy['spec']): Event => policyEvent({ name, namespace: 'one', spec });
export const calico = calicoPolicyEvent;
export const global = (name: string, spec: object): Event => calicoEvent('GlobalNetworkPolicy', { name }, spec);

/** ClusterNetworkPolicy of v1alpha2, and the others of v1alpha1. */
export function cluster(
  kind: 'ClusterNetworkPolicy' | 'AdminNetworkPolicy' | 'BaselineAdminNetworkPolicy',
  name: string,
  spec: object,
): Event {
  const version = kind === 'ClusterNetworkPolicy' ? 'v1alpha2' : 'v1alpha1';
  const apiVersion = `policy.networking.k8s.io/${version}`;
  const { policy } = readClusterPolicy(kind, { kind, apiVersion, metadata: { name }, spec });
  return set({ type: 'GlobalNetworkPolicy', name: policy.metadata.name }, policy);
}

export function serviceAccount(namespace: string, name: string, labels: Readonly<Record<string, string>>): Event {
  const metadata = { name, namespace, labels };
  const profile = parseKubernetes({ kind: 'ServiceAccount', apiVersion: 'v1', metadata });
  return set({ type: 'Profile', name: profile.metadata.name }, profile);
}

export const app = (name: string) => ({ matchLabels: { app: name } });
export const allow = { action: 'Allow' } as const;
export const deny = { action: 'Deny' } as const;
/** Every namespace, as subject or peer of the kinds of policy.networking.k8s.io. */
export const everyone = { namespaces: {} };
/** A rule's condition on TCP ports. */
export const tcp = (...ports: (number | string)[]) => ({ protocol: 'TCP', destination: { ports } });
