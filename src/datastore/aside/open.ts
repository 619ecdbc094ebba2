import { systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { StoreConfig } from '../config.ts';
import { readCertificates } from '../etcd-certificates.ts';
import { createKubernetesStore } from '../kubernetes/store.ts';
import { KvStore } from '../kv-store.ts';
import type { Store } from '../store.ts';
import { AsideKv } from './kv.ts';
import type { AsideOptions } from './messages.ts';

/**
 * As `openStore`, with the client of etcd in a thread of its own: for a process that is waited for.
 * @throws EnvironmentError when a certificate file cannot be used
 */
export function openStoreAside(config: StoreConfig, log: Log, options: AsideOptions = {}): Store {
  if (config.type === 'kubernetes') return createKubernetesStore(config, log);
  // The thread reads them itself; what is wrong with them is said here and now.
  if (config.tls) readCertificates(config.tls);
  return new KvStore(new AsideKv(config, systemClock, log, options), () => systemClock.wall());
}
