import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { readKubernetesConfig } from '../datastore/kubernetes/config.ts';
import { createKubernetesStore } from '../datastore/kubernetes/store.ts';
import type { Store } from '../datastore/store.ts';
import type { Environment } from './environment.ts';

export interface PodFactsSource {
  /** Undefined: Kubernetes cannot be asked. */
  readonly podFacts?: NonNullable<Store['podFacts']>;
  close(): void;
}

/**
 * Where ADD asks what Kubernetes knows of a pod: the datastore, or with etcd the API, where KUBECONFIG or the Pod's
 * service account names it. A machine without either has its pods' labels from the runtime.
 * @throws InputError naming the variable
 */
export function podFactsSource(store: Store, env: Environment, log: Log): PodFactsSource {
  if (store.podFacts) return { podFacts: store.podFacts.bind(store), close: () => undefined };
  if (!env['CALICO_KUBECONFIG'] && !env['KUBECONFIG'] && !env['KUBERNETES_SERVICE_HOST'])
    return { close: () => undefined };
  const config = readKubernetesConfig(env);
  const { access } = config;
  if (access.by === 'serviceAccount' && !existsSync(join(access.directory, 'token'))) {
    log.info('this Pod has no token for the Kubernetes API: labels of pods come from the runtime and the controllers');
    return { close: () => undefined };
  }
  const cluster = createKubernetesStore(config, log, { ownOnly: true });
  log.info('ADD asks the Kubernetes API for labels and annotations of pods');
  return { ...(cluster.podFacts && { podFacts: cluster.podFacts.bind(cluster) }), close: () => cluster.close() };
}
