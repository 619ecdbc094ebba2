import { z } from 'zod';
import { cidr, isPort, labelKey, labelSelector, objectName, portNumber } from './schema.ts';

/*
 * `policy.networking.k8s.io`: AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1), ClusterNetworkPolicy
 * (v1alpha2). Rules are checked one by one, so that one which cannot be understood fails closed alone.
 */

const namespacedPod = z.strictObject({ namespaceSelector: labelSelector, podSelector: labelSelector });
/**
 * Namespaces of peers in v1alpha1: a selector, or, until its 0.1.1, one of three ways to say them (NamespacedPeer), of
 * which two compare labels with those of the subject's namespace.
 */
const labelKeys = z.array(labelKey).max(100).nullish();
const peerNamespaces = z
  .strictObject({
    ...labelSelector.shape,
    namespaceSelector: labelSelector.nullish(),
    sameLabels: labelKeys,
    notSameLabels: labelKeys,
  })
  .refine(
    ({ matchLabels, matchExpressions, ...ways }) => {
      const said = Object.values(ways).filter((way) => way !== undefined && way !== null).length;
      return said === 0 || (said === 1 && !matchLabels && !matchExpressions);
    },
    { error: 'expected a selector, or exactly one of namespaceSelector, sameLabels, notSameLabels' },
  );
const peerPods = z
  .strictObject({
    namespaceSelector: labelSelector.nullish(),
    namespaces: peerNamespaces.nullish(),
    podSelector: labelSelector,
  })
  .refine(({ namespaceSelector, namespaces }) => !namespaceSelector !== !namespaces, {
    error: 'expected exactly one of namespaceSelector and namespaces',
    path: ['namespaceSelector'],
  });

/** v1alpha2 lets namespaceSelector out; it then selects every namespace. */
const clusterNamespacedPod = z.strictObject({
  namespaceSelector: labelSelector.nullish().transform((selector) => selector ?? {}),
  podSelector: labelSelector,
});

/** An object of which exactly one field is there; none may mean one that this version does not know. */
function oneOf<S extends z.ZodRawShape>(shape: S) {
  const names = Object.keys(shape).join(', ');
  return z
    .strictObject(shape)
    .refine(
      (found) => Object.values(found).filter((field) => field !== undefined && field !== null).length === 1,
      `expected exactly one of ${names}`,
    );
}

/** A field of the API that cannot be enforced: refused, never left out. */
const refused = (why: string) => z.undefined({ error: `expected no such field: ${why}` }).optional();
const domainNames = refused('domain names are not resolved here; use networks');

const networks = z.array(cidr).min(1).max(25);
const ofPods = { namespaces: labelSelector.nullish(), pods: namespacedPod.nullish() };
const ofClusterPods = { namespaces: labelSelector.nullish(), pods: clusterNamespacedPod.nullish() };
const adminPeers = { namespaces: peerNamespaces.nullish(), pods: peerPods.nullish() };
const outside = { nodes: labelSelector.nullish(), networks: networks.nullish(), domainNames };

const protocol = z.enum(['TCP', 'UDP', 'SCTP']);
const portName = z.string().refine((name) => isPort(name), 'expected the name of a port (at most 15 of a-z, 0-9, -)');
const ascending = ({ start, end }: { start: number; end: number }) => start < end;
const notAscending = 'expected an end that is greater than the start';

const adminPort = oneOf({
  portNumber: z.strictObject({ protocol: protocol.default('TCP'), port: portNumber }).nullish(),
  namedPort: portName.nullish(),
  portRange: z
    .strictObject({ protocol: protocol.default('TCP'), start: portNumber, end: portNumber })
    .refine(ascending, notAscending)
    .nullish(),
});

const numbers = z.strictObject({
  destinationPort: oneOf({
    number: portNumber.nullish(),
    range: z.strictObject({ start: portNumber, end: portNumber }).refine(ascending, notAscending).nullish(),
  }),
});

const clusterProtocol = oneOf({
  tcp: numbers.nullish(),
  udp: numbers.nullish(),
  sctp: numbers.nullish(),
  destinationNamedPort: portName.nullish(),
});

const ruleName = z.string().max(100).nullish();

/** Only pods have named ports. */
function podsForNames<P extends { readonly nodes?: unknown; readonly networks?: unknown }>(
  peers: readonly P[],
  named: boolean,
): boolean {
  return !named || peers.every(({ nodes, networks: nets }) => !nodes && !nets);
}
const notNamed = { error: 'expected no named port in a rule with nodes or networks, which have none', path: ['to'] };

function adminRules<A extends string>(actions: z.ZodType<A>) {
  const ports = z.array(adminPort).min(1).max(100).nullish();
  const common = { name: ruleName, action: actions, ports };
  return {
    ingress: z.strictObject({ ...common, from: z.array(oneOf(adminPeers)).min(1).max(100) }),
    egress: z
      .strictObject({
        ...common,
        to: z
          .array(oneOf({ ...adminPeers, ...outside }))
          .min(1)
          .max(100),
      })
      .refine(
        ({ to, ports: wanted }) =>
          podsForNames(
            to,
            (wanted ?? []).some((each) => each.namedPort),
          ),
        notNamed,
      ),
  };
}

function clusterRules() {
  const protocols = z.array(clusterProtocol).min(1).max(25).nullish();
  const common = { name: ruleName, action: z.enum(['Accept', 'Deny', 'Pass']), protocols };
  return {
    ingress: z.strictObject({ ...common, from: z.array(oneOf(ofClusterPods)).min(1).max(25) }),
    egress: z
      .strictObject({
        ...common,
        to: z
          .array(oneOf({ ...ofClusterPods, ...outside }))
          .min(1)
          .max(25),
      })
      .refine(
        ({ to, protocols: wanted }) =>
          podsForNames(
            to,
            (wanted ?? []).some((each) => each.destinationNamedPort),
          ),
        notNamed,
      ),
  };
}

/** Everything of an object but its rules, which are checked one by one. */
function envelope<S extends z.ZodRawShape>(kind: string, apiVersion: string, most: number, spec: S) {
  const unread = z.array(z.unknown()).max(most).nullish();
  return z.strictObject({
    kind: z.literal(kind),
    apiVersion: z.literal(apiVersion),
    // Longer ones have no room for the prefix under which they are stored.
    metadata: z.looseObject({ name: objectName.max(247) }),
    spec: z.strictObject({ ...spec, ingress: unread, egress: unread }),
    status: z.looseObject({}).nullish(),
  });
}

const priority = z.number().int().min(0).max(1000);
const v1alpha1 = 'policy.networking.k8s.io/v1alpha1';
const v1alpha2 = 'policy.networking.k8s.io/v1alpha2';

export const adminNetworkPolicy = {
  envelope: envelope('AdminNetworkPolicy', v1alpha1, 100, { priority, subject: oneOf(ofPods) }),
  rules: adminRules(z.enum(['Allow', 'Deny', 'Pass'])),
};

export const baselineAdminNetworkPolicy = {
  envelope: envelope('BaselineAdminNetworkPolicy', v1alpha1, 100, { subject: oneOf(ofPods) }).refine(
    ({ metadata }) => metadata.name === 'default',
    { error: 'expected "default": there is only one', path: ['metadata', 'name'] },
  ),
  rules: adminRules(z.enum(['Allow', 'Deny'])),
};

export const clusterNetworkPolicy = {
  envelope: envelope('ClusterNetworkPolicy', v1alpha2, 25, {
    tier: z.enum(['Admin', 'Baseline']),
    priority,
    subject: oneOf(ofClusterPods),
  }),
  rules: clusterRules(),
};

/** A subject of any version. */
export const subjectOf = oneOf(ofClusterPods);

type RuleOf<R extends { readonly ingress: z.ZodType; readonly egress: z.ZodType }> =
  | z.output<R['ingress']>
  | z.output<R['egress']>;
export type AdminRule = RuleOf<ReturnType<typeof adminRules<'Allow' | 'Deny' | 'Pass'>>>;
export type ClusterRule = RuleOf<ReturnType<typeof clusterRules>>;
export type AdminPort = z.output<typeof adminPort>;
export type ClusterProtocol = z.output<typeof clusterProtocol>;
export type Subject = z.output<ReturnType<typeof oneOf<typeof ofPods>>>;
export type PeerNamespaces = z.output<typeof peerNamespaces>;
export type ClusterPeer = z.output<ReturnType<typeof oneOf<typeof adminPeers & typeof outside>>>;
