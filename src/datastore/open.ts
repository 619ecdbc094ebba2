import type { Log } from '../base/log.ts';
import type { StoreConfig } from './config.ts';
import { createEtcdStore } from './etcd.ts';
import { createKubernetesStore } from './kubernetes/store.ts';
import type { Store } from './store.ts';

export { type Environment, readStoreConfig, type StoreConfig } from './config.ts';

/**
 * The datastore the configuration names. Connects on first use, so it succeeds while the datastore is down.
 * @throws EnvironmentError when a certificate file cannot be used
 */
export function openStore(config: StoreConfig, log: Log): Store {
  return config.type === 'kubernetes' ? createKubernetesStore(config, log) : createEtcdStore(config, log);
}
