import { existsSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type ApiAccess, kubeconfigName } from '../cni/kubeconfig.ts';
import { KubeconfigKeeper } from '../cni/kubeconfig-keeper.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { type PodAccess, TokenIssuer } from '../datastore/kubernetes/token.ts';
import { booleanOf, type Environment } from './environment.ts';

/*
 * What CNI plugins on the host have of the Kubernetes API: a kubeconfig with a token of their own account, which the
 * installer writes and felix renews. Only a Pod with a service account can ask for it.
 */

/** Calico's time for it: a day. */
const tokenSeconds = 24 * 60 * 60;
/** Where the manifests mount the host's directory of network configurations, as Calico's do. */
const mountedConfDir = '/host/etc/cni/net.d';

/** CALICO_CNI_SERVICE_ACCOUNT, or the name in Calico's manifests. */
function accountOf(env: Environment): string {
  return env['CALICO_CNI_SERVICE_ACCOUNT'] || 'calico-cni-plugin';
}

/** How this Pod asks for tokens; undefined elsewhere, with etcd, and where CALICO_MANAGE_CNI is false. */
function issuing(env: Environment): PodAccess | undefined {
  if (booleanOf(env, 'CALICO_MANAGE_CNI') === false) return undefined;
  // The installer of a manifest of Calico's is told no datastore.
  const config = readStoreConfig({ ...env, DATASTORE_TYPE: env['DATASTORE_TYPE'] || 'kubernetes' });
  return config.type === 'kubernetes' && config.access.by === 'serviceAccount' ? config.access : undefined;
}

/**
 * Access for the installer to write. Our plugin works without: what stands in the way is told, and felix goes on trying.
 */
export async function issuedAccess(env: Environment, log: Log): Promise<ApiAccess | undefined> {
  if (!env['KUBERNETES_SERVICE_HOST']) return undefined;
  const access = issuing(env);
  if (access === undefined) return undefined;
  const issuer = new TokenIssuer(access, log);
  try {
    return await issuer.issue(accountOf(env), tokenSeconds);
  } catch (cause) {
    process.stderr.write(`${kubeconfigName} is not written yet, which chained plugins may need: ${explain(cause)}\n`);
    return undefined;
  } finally {
    issuer.close();
  }
}

/**
 * Keeps the kubeconfig in MARGAY_CNI_CONF_DIR (default /host/etc/cni/net.d) fresh until the signal aborts; ends at once
 * where there is nothing to keep.
 */
export async function keepKubeconfig(env: Environment, log: Log, signal: AbortSignal): Promise<void> {
  const confDir = env['MARGAY_CNI_CONF_DIR'] || mountedConfDir;
  const access = issuing(env);
  if (access === undefined) return;
  if (!existsSync(confDir)) {
    log.info({ confDir }, 'no directory of network configurations is mounted: no kubeconfig is kept there');
    return;
  }
  const issuer = new TokenIssuer(access, log);
  try {
    const issue = () => issuer.issue(accountOf(env), tokenSeconds);
    await new KubeconfigKeeper({ confDir, issue, clock: systemClock, log }).run(signal);
  } finally {
    issuer.close();
  }
}
