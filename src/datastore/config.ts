import { InputError } from '../base/errors.ts';
import { type KubernetesConfig, readKubernetesConfig } from './kubernetes/config.ts';

/** How to reach the datastore, from the environment. */
export type StoreConfig = EtcdConfig | KubernetesConfig;

export interface EtcdConfig {
  readonly type: 'etcdv3';
  /** `http://host:port` or `https://host:port`, at least one, all of one scheme. */
  readonly endpoints: readonly string[];
  readonly credentials?: { readonly username: string; readonly password: string };
  /** Paths of PEM files; the client certificate and its key come together. */
  readonly tls?: {
    readonly caFile: string;
    readonly client?: { readonly certificateFile: string; readonly keyFile: string };
  };
  /** What all keys begin with, `/tenants/a`, before Calico's `/calico/`. */
  readonly namespace?: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

const settings = [
  'DATASTORE_TYPE',
  'ETCD_ENDPOINTS',
  'ETCD_DISCOVERY_SRV',
  'ETCD_USERNAME',
  'ETCD_PASSWORD',
  'ETCD_CA_CERT_FILE',
  'ETCD_CERT_FILE',
  'ETCD_KEY_FILE',
  'ETCD_NAMESPACE',
] as const;
type Setting = (typeof settings)[number];

/**
 * Calico's datastore settings: DATASTORE_TYPE (etcdv3 or kubernetes, whose settings readKubernetesConfig tells), ETCD_ENDPOINTS (comma-separated, default http://127.0.0.1:2379),
 * ETCD_USERNAME, ETCD_PASSWORD, ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_NAMESPACE. Each also with the prefix `CALICO_`,
 * which wins. An empty value counts as unset.
 * @throws InputError naming the variable
 */
export function readStoreConfig(env: Environment): StoreConfig {
  const read = (setting: Setting) => env[`CALICO_${setting}`]?.trim() || env[setting]?.trim() || undefined;
  const type = read('DATASTORE_TYPE') ?? 'etcdv3';
  if (type === 'kubernetes') return readKubernetesConfig(env);
  if (type !== 'etcdv3') throw new InputError('DATASTORE_TYPE', type, 'etcdv3 or kubernetes');
  const discovery = read('ETCD_DISCOVERY_SRV');
  if (discovery !== undefined)
    throw new InputError('ETCD_DISCOVERY_SRV', discovery, 'no value: list the members in ETCD_ENDPOINTS instead');
  const endpoints = readEndpoints(read('ETCD_ENDPOINTS') ?? 'http://127.0.0.1:2379');
  return { type, endpoints, ...readCredentials(read), ...readTls(read, endpoints), ...readNamespace(read) };
}

/** Keys are put behind it as they are, so it begins with `/` and does not end with one. */
function readNamespace(read: (setting: Setting) => string | undefined): Pick<EtcdConfig, 'namespace'> {
  const namespace = read('ETCD_NAMESPACE');
  if (namespace === undefined) return {};
  if (!/^(\/[\w.-]+)+$/.test(namespace) || /^\/calico(\/|$)/.test(namespace))
    throw new InputError('ETCD_NAMESPACE', namespace, 'a prefix such as /tenants/a, other than /calico');
  return { namespace };
}

function readEndpoints(text: string): string[] {
  const endpoints = text.split(',').flatMap((part) => (part.trim() === '' ? [] : [endpoint(part.trim())]));
  if (endpoints.length === 0) throw new InputError('ETCD_ENDPOINTS', text, 'at least one http(s)://host:port');
  if (new Set(endpoints.map((each) => each.startsWith('https:'))).size > 1)
    throw new InputError('ETCD_ENDPOINTS', text, 'http or https for all members alike');
  return endpoints;
}

function endpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url && url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '';
  if (!plain || !/^https?:$/.test(url.protocol) || url.hostname === '')
    throw new InputError('ETCD_ENDPOINTS', text, 'http://host:port or https://host:port, separated by commas');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return `${url.protocol}//${url.hostname}:${port}`;
}

function readCredentials(read: (setting: Setting) => string | undefined): Pick<EtcdConfig, 'credentials'> {
  const username = read('ETCD_USERNAME');
  const password = read('ETCD_PASSWORD');
  if (username === undefined && password === undefined) return {};
  if (username === undefined) throw new InputError('ETCD_USERNAME', undefined, 'a name, as ETCD_PASSWORD is set');
  if (password === undefined) throw new InputError('ETCD_PASSWORD', undefined, 'a password, as ETCD_USERNAME is set');
  return { credentials: { username, password } };
}

function readTls(
  read: (setting: Setting) => string | undefined,
  endpoints: readonly string[],
): Pick<EtcdConfig, 'tls'> {
  const caFile = read('ETCD_CA_CERT_FILE');
  const certificateFile = read('ETCD_CERT_FILE');
  const keyFile = read('ETCD_KEY_FILE');
  if (caFile === undefined && certificateFile === undefined && keyFile === undefined) return {};
  if (!endpoints.every((each) => each.startsWith('https:')))
    throw new InputError('ETCD_ENDPOINTS', endpoints.join(','), 'https, as certificate files are set');
  if (caFile === undefined)
    throw new InputError('ETCD_CA_CERT_FILE', undefined, 'the file of the authority that signed the members');
  if (certificateFile === undefined && keyFile === undefined) return { tls: { caFile } };
  if (certificateFile === undefined)
    throw new InputError('ETCD_CERT_FILE', undefined, 'a file, as ETCD_KEY_FILE is set');
  if (keyFile === undefined) throw new InputError('ETCD_KEY_FILE', undefined, 'a file, as ETCD_CERT_FILE is set');
  return { tls: { caFile, client: { certificateFile, keyFile } } };
}
