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
import { emit, head, resolve, type Tree, tree } from './tree.ts';
import { valuesOf, variants } from './values.ts';

/* What `npm run manifests` writes below deploy/. */

export const objects: readonly Tree[] = [
  ...[serviceAccount, clusterRole, podReader, clusterRoleBinding, tokenRole, tokenRoleBinding],
  ...[pluginAccount, pluginRole, pluginRoleBinding, config, daemonSet],
  ...[controllersAccount, controllersRole, controllersEtcdRole, controllersRoleBinding, leaseRole, leaseRoleBinding],
  ...[deployment, disruptionBudget],
];

/** The plain manifests: path below deploy/ → text. */
export function manifests(): Map<string, string> {
  return new Map(
    Object.entries(variants).map(([file, variant]) => {
      const settings = { Values: valuesOf(variant), Release: tree({ Namespace: 'kube-system' }) };
      const documents = objects.flatMap((each) => {
        const made = resolve(each, settings);
        return made === undefined ? [] : [emit(made)];
      });
      return [file, head(variant.about) + documents.join('---\n')];
    }),
  );
}
