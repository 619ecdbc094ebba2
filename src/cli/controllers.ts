import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { systemClock } from '../base/clock.ts';
import { InputError } from '../base/errors.ts';
import { createLog, type Log } from '../base/log.ts';
import { runControllers } from '../controllers/run.ts';
import { readSettings } from '../controllers/settings.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { createEtcdKv, createEtcdStore } from '../datastore/etcd.ts';
import { readKubernetesConfig } from '../datastore/kubernetes/config.ts';
import { createKubernetesLease } from '../datastore/kubernetes/lease.ts';
import { createKubernetesStore } from '../datastore/kubernetes/store.ts';
import { KvLease, type LeaseStore } from '../datastore/lease.ts';
import type { Store } from '../datastore/store.ts';
import type { Environment } from './environment.ts';
import { stopSignal } from './supervisor.ts';

const leaseName = 'margay-controllers';
const defaultHealthPort = 9440;

interface Stores {
  readonly store: Store;
  readonly cluster?: Store;
  readonly lease: LeaseStore;
}

/**
 * `margay controllers`: what a cluster needs done once, by the elected one of several processes, until told to stop.
 * DATASTORE_TYPE and its settings as the agents'; with etcd, Kubernetes is reached as KUBECONFIG or the Pod's service
 * account say.
 * @throws InputError, EnvironmentError
 */
export async function runControllersProgram(env: NodeJS.ProcessEnv): Promise<void> {
  const log = createLog('controllers', readSettings(env).settings.logLevel);
  const healthPort = portOf(env, 'MARGAY_CONTROLLERS_HEALTHPORT', defaultHealthPort);
  const stores = openStores(env, log);
  const identity = `${hostname()}_${randomUUID()}`;
  const signal = stopSignal(env);
  try {
    await runControllers({ ...stores, identity, env, healthPort, clock: systemClock, log, signal });
  } finally {
    stores.lease.close();
    stores.cluster?.close();
    stores.store.close();
  }
}

function openStores(env: Environment, log: Log): Stores {
  const config = readStoreConfig(env);
  if (config.type === 'kubernetes') {
    const place = { namespace: env['POD_NAMESPACE'] || 'kube-system', name: leaseName };
    return { store: createKubernetesStore(config, log), lease: createKubernetesLease(config, place, log) };
  }
  const cluster = createKubernetesStore(readKubernetesConfig(env), log, { ownOnly: true });
  const lease = new KvLease(createEtcdKv(config, log), leaseName);
  return { store: createEtcdStore(config, log), cluster, lease };
}

function portOf(env: Environment, name: string, absent: number): number {
  const text = env[name];
  if (!text) return absent;
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65535)
    throw new InputError(name, text, 'a port from 1 to 65535');
  return Number(text);
}
