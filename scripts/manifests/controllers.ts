import { certificates, confined, container } from './daemon-set.ts';
import { calicoGroups, onKubernetes, rbac, read, readsKubernetes, readsPolicy } from './objects.ts';
import { digest, inChart, type Literal, noted, release, type Tree, tree, value, when } from './tree.ts';

/*
 * The controllers: two Pods of which one acts, as somebody without rights on the node. Where Kubernetes is the datastore
 * they are on the pod network; with etcd on the hosts', which policy that is not copied yet cannot cut off.
 */

export const controllers = 'margay-controllers';
const health = 9440;
const metrics = 9094;
/** Nobody's in particular. */
const user = 65532;

const onEtcd = (object: Literal) => when('config.DATASTORE_TYPE', object, 'etcdv3');

export const controllersAccount: Tree = tree({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name: controllers, namespace: release('Namespace') },
});

const readsServices = { apiGroups: [''], resources: ['services'], verbs: read };
const writesServices = noted('The addresses of services of type LoadBalancer.', {
  apiGroups: [''],
  resources: ['services/status'],
  verbs: ['patch'],
});

const kubernetesRules = [
  noted('Which nodes and pods there are, and whose addresses.', {
    apiGroups: [''],
    resources: ['nodes', 'pods'],
    verbs: read,
  }),
  {
    apiGroups: calicoGroups,
    resources: [
      'blockaffinities',
      'clusterinformations',
      'hostendpoints',
      'ipamblocks',
      'ipamconfigs',
      'ipamconfigurations',
      'ipamhandles',
      'ippools',
      'ipreservations',
      'kubecontrollersconfigurations',
    ],
    verbs: read,
  },
  readsServices,
  noted('Labels of the namespace of a service, where a pool selects namespaces.', {
    apiGroups: [''],
    resources: ['namespaces'],
    verbs: ['get'],
  }),
  writesServices,
  noted('Addresses of services, and those that nobody uses any more.', {
    apiGroups: calicoGroups,
    resources: ['ipamblocks', 'ipamhandles'],
    verbs: ['create', 'update', 'delete'],
  }),
  noted('Blocks of services, and of nodes that are gone.', {
    apiGroups: calicoGroups,
    resources: ['blockaffinities'],
    verbs: ['create', 'update', 'delete'],
  }),
  noted('Automatic host endpoints.', {
    apiGroups: calicoGroups,
    resources: ['hostendpoints'],
    verbs: ['create', 'update', 'delete'],
  }),
  noted('A watch that hears nothing asks whether the server is alive.', {
    nonResourceURLs: ['/version'],
    verbs: ['get'],
  }),
];

const etcdRules = [
  noted('What is copied to etcd.', readsKubernetes),
  ...readsPolicy,
  writesServices,
  noted('A watch that hears nothing asks whether the server is alive.', {
    nonResourceURLs: ['/version'],
    verbs: ['get'],
  }),
];

function clusterRole(rules: readonly Literal[]): Tree {
  return tree({ apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: controllers }, rules });
}

const subject = { kind: 'ServiceAccount', name: controllers, namespace: release('Namespace') };

export const controllersRole: Tree = onKubernetes(clusterRole(kubernetesRules));
export const controllersEtcdRole: Tree = onEtcd(clusterRole(etcdRules));

export const controllersRoleBinding: Tree = tree({
  apiVersion: `${rbac}/v1`,
  kind: 'ClusterRoleBinding',
  metadata: { name: controllers },
  roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: controllers },
  subjects: [subject],
});

/** The lease by which one of the Pods is elected; with etcd it is there. */
export const leaseRole: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'Role',
    metadata: { name: controllers, namespace: release('Namespace') },
    rules: [
      noted('The lease by which one Pod is elected.', {
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        verbs: ['create'],
      }),
      {
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        resourceNames: [controllers],
        verbs: ['get', 'update'],
      },
    ],
  }),
);

export const leaseRoleBinding: Tree = onKubernetes(
  tree({
    apiVersion: `${rbac}/v1`,
    kind: 'RoleBinding',
    metadata: { name: controllers, namespace: release('Namespace') },
    roleRef: { apiGroup: rbac, kind: 'Role', name: controllers },
    subjects: [subject],
  }),
);

const labels = { 'k8s-app': controllers };

function probe(path: string, times: Record<string, number>): Literal {
  return { httpGet: { port: health, path }, ...times, periodSeconds: 10, timeoutSeconds: 10 };
}

const { env: _, ...common } = container(controllers, ['controllers']);

const main = {
  ...common,
  env: [{ name: 'POD_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } }],
  ports: [
    { name: 'metrics', containerPort: metrics },
    { name: 'health', containerPort: health },
  ],
  securityContext: confined(),
  resources: value('controllers.resources'),
  livenessProbe: probe('/liveness', { initialDelaySeconds: 10, failureThreshold: 6 }),
  readinessProbe: probe('/readiness', {}),
  volumeMounts: when('etcd.secret', [certificates]),
};

const pod = {
  nodeSelector: value('nodeSelector'),
  hostNetwork: onEtcd(true),
  priorityClassName: 'system-cluster-critical',
  serviceAccountName: controllers,
  imagePullSecrets: when('imagePullSecrets', value('imagePullSecrets')),
  securityContext: { runAsNonRoot: true, runAsUser: user, runAsGroup: user, fsGroup: user },
  tolerations: [
    { operator: 'Exists', key: 'CriticalAddonsOnly' },
    { operator: 'Exists', key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' },
  ],
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: 'kubernetes.io/hostname',
      whenUnsatisfiable: 'ScheduleAnyway',
      labelSelector: { matchLabels: labels },
    },
  ],
  containers: [main],
  // Files that the group above may read, 0440 in octal.
  volumes: when('etcd.secret', [
    { name: 'etcd-certs', secret: { secretName: value('etcd.secret'), defaultMode: 288 } },
  ]),
};

export const deployment: Tree = tree({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: controllers, namespace: release('Namespace'), labels },
  spec: {
    replicas: value('controllers.replicas'),
    selector: { matchLabels: labels },
    template: { metadata: { labels, annotations: inChart({ 'checksum/config': digest('config') }) }, spec: pod },
  },
});

export const disruptionBudget: Tree = tree({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name: controllers, namespace: release('Namespace'), labels },
  spec: { maxUnavailable: 1, selector: { matchLabels: labels } },
});
