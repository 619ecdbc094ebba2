import {
  controllersAccount,
  controllersEtcdRole,
  controllersRole,
  controllersRoleBinding,
  deployment,
  disruptionBudget,
  leaseRole,
  leaseRoleBinding,
} from './controllers.ts';
import { daemonSet } from './daemon-set.ts';
import {
  clusterRole,
  clusterRoleBinding,
  config,
  pluginAccount,
  pluginRole,
  pluginRoleBinding,
  podReader,
  serviceAccount,
  tokenRole,
  tokenRoleBinding,
} from './objects.ts';
import { emit, tree } from './tree.ts';
import { defaults } from './values.ts';
import { valuesSchemaText } from './values-schema.ts';

/* The Helm chart: the manifests' objects with their places left open. Its crds/ is a link to deploy/crds. */

const about = {
  apiVersion: 'v2',
  name: 'margay',
  description: 'Pod network for bare-metal Kubernetes: BGP routes, veth endpoints, block IPAM and NetworkPolicy',
  type: 'application',
  version: '0.1.0',
  appVersion: '0.1.0',
};

const head = '# Made by `npm run manifests`: change scripts/manifests instead.\n';

const templates = {
  'service-account.yaml': serviceAccount,
  'cluster-role.yaml': clusterRole,
  'pod-reader-cluster-role.yaml': podReader,
  'cluster-role-binding.yaml': clusterRoleBinding,
  'role.yaml': tokenRole,
  'role-binding.yaml': tokenRoleBinding,
  'cni-plugin-service-account.yaml': pluginAccount,
  'cni-plugin-cluster-role.yaml': pluginRole,
  'cni-plugin-cluster-role-binding.yaml': pluginRoleBinding,
  'config.yaml': config,
  'daemon-set.yaml': daemonSet,
  'controllers-service-account.yaml': controllersAccount,
  'controllers-cluster-role.yaml': controllersRole,
  'controllers-etcd-cluster-role.yaml': controllersEtcdRole,
  'controllers-cluster-role-binding.yaml': controllersRoleBinding,
  'controllers-role.yaml': leaseRole,
  'controllers-role-binding.yaml': leaseRoleBinding,
  'controllers-deployment.yaml': deployment,
  'controllers-disruption-budget.yaml': disruptionBudget,
};

/** Path below deploy/chart → text. */
export function chart(): Map<string, string> {
  return new Map([
    ['Chart.yaml', head + emit(tree(about))],
    ['values.yaml', head + emit(defaults)],
    ['values.schema.json', valuesSchemaText()],
    ...Object.entries(templates).map(([file, object]) => [`templates/${file}`, head + emit(object)] as const),
  ]);
}
