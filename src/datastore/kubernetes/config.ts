import { join } from 'node:path';
import { InputError } from '../../base/errors.ts';
import { type CalicoGroup, calicoGroup, v3Group } from './resources.ts';

/** How to reach the Kubernetes API. */
export interface KubernetesConfig {
  readonly type: 'kubernetes';
  readonly access:
    | {
        readonly by: 'kubeconfig';
        /** Paths; later files add to the first. */
        readonly files: readonly string[];
      }
    | {
        readonly by: 'serviceAccount';
        readonly server: string;
        /** Holds `token` and `ca.crt`, which the kubelet keeps fresh. */
        readonly directory: string;
      };
  /** First entry of FELIX_INTERFACEPREFIX: how names of pods' devices begin. */
  readonly interfacePrefix: string;
  /** Where Calico's objects are; without it, the server is asked which definitions it has. */
  readonly group?: CalicoGroup;
}

const groups: Readonly<Record<string, CalicoGroup>> = {
  'crd.projectcalico.org/v1': calicoGroup,
  'projectcalico.org/v3': v3Group,
};

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * KUBECONFIG (paths separated by colons), else the Pod's service account (KUBERNETES_SERVICE_HOST and _PORT), else
 * `~/.kube/config`. CALICO_API_GROUP: `crd.projectcalico.org/v1` or `projectcalico.org/v3`.
 * @throws InputError naming the variable
 */
export function readKubernetesConfig(env: Readonly<Record<string, string | undefined>>): KubernetesConfig {
  const text = env['CALICO_API_GROUP']?.trim();
  const group = text ? groups[text.toLowerCase()] : undefined;
  if (text && group === undefined) throw new InputError('CALICO_API_GROUP', text, Object.keys(groups).join(' or '));
  const interfacePrefix = env['FELIX_INTERFACEPREFIX']?.split(',')[0]?.trim() || 'cali';
  return { type: 'kubernetes', access: accessOf(env), interfacePrefix, ...(group && { group }) };
}

function accessOf(env: Readonly<Record<string, string | undefined>>): KubernetesConfig['access'] {
  const files = (env['CALICO_KUBECONFIG'] || env['KUBECONFIG'] || '').split(':').filter((path) => path.trim() !== '');
  if (files.length > 0) return { by: 'kubeconfig', files };
  const host = env['KUBERNETES_SERVICE_HOST']?.trim();
  if (host) {
    const port = env['KUBERNETES_SERVICE_PORT']?.trim() || '443';
    if (!/^\d{1,5}$/.test(port)) throw new InputError('KUBERNETES_SERVICE_PORT', port, 'a port');
    const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
    if (!URL.canParse(server)) throw new InputError('KUBERNETES_SERVICE_HOST', host, 'an address or a host name');
    return { by: 'serviceAccount', server, directory: serviceAccount };
  }
  const home = env['HOME'];
  if (home) return { by: 'kubeconfig', files: [join(home, '.kube/config')] };
  throw new InputError('KUBECONFIG', undefined, 'a path, as DATASTORE_TYPE is kubernetes and this is no Pod');
}
