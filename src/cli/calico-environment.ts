import { nearest } from '../felix/nearest.ts';
import type { Environment } from './environment.ts';

/** A variable that is set and has no effect. */
export interface Idle {
  readonly variable: string;
  /** What is missed by that, of a variable of Calico's. */
  readonly detail?: string;
  /** A name that is read, of a variable that nobody reads. */
  readonly didYouMean?: string;
}

const pool = ['CIDR', 'BLOCK_SIZE', 'IPIP', 'VXLAN', 'NAT_OUTGOING', 'NODE_SELECTOR', 'DISABLE_BGP_EXPORT'];
const stores = [
  ...['DATASTORE_TYPE', 'KUBECONFIG', 'ETCD_ENDPOINTS', 'ETCD_DISCOVERY_SRV', 'ETCD_USERNAME', 'ETCD_PASSWORD'],
  ...['ETCD_CA_CERT_FILE', 'ETCD_CERT_FILE', 'ETCD_KEY_FILE', 'ETCD_NAMESPACE'],
];

/** What the programs of a node read, but for FELIX_ and MARGAY_. */
const read: readonly string[] = [
  ...['NODENAME', 'AS', 'IP', 'IP6', 'IP_AUTODETECTION_METHOD', 'IP6_AUTODETECTION_METHOD', 'NO_DEFAULT_POOLS'],
  ...['CLUSTER_TYPE', 'USE_POD_CIDR', 'CALICO_NETWORKING_BACKEND', 'CALICO_ROUTER_ID', 'CALICO_ADVERTISE_CLUSTER_IPS'],
  ...[
    'CALICO_K8S_NODE_REF',
    'CALICO_STARTUP_LOGLEVEL',
    'CALICO_API_GROUP',
    'CALICO_MANAGE_CNI',
    'CALICO_CNI_SERVICE_ACCOUNT',
  ],
  ...stores.flatMap((name) => [name, `CALICO_${name}`]),
  ...[4, 6].flatMap((family) => pool.map((name) => `CALICO_IPV${family}POOL_${name}`)),
];

/** Variables of Calico's by which nothing is lost: what they ask for is so anyway, or is about Calico's own parts. */
const harmless: readonly string[] = [
  ...['CALICO_DISABLE_FILE_LOGGING', 'WAIT_FOR_DATASTORE', 'SLEEP'],
  ...['CALICO_VERSION', 'CALICO_LIBNETWORK_ENABLED', 'CALICO_CNI_CONF_NAME'],
];

/** Variables of Calico's whose effect somebody may count on. */
const missed: Readonly<Record<string, string>> = {
  CALICO_EARLY_NETWORKING: "the node's own routes to its ToRs are not set up before Kubernetes",
  CALICO_ENCAPSULATION: 'a pool says how its packets travel',
  DISABLE_NODE_IP_CHECK: 'two nodes with one address are not looked for',
  IP_AUTODETECTION_INTERVAL: 'the address is looked for once, at the start',
  AUTODETECT_POLL_INTERVAL: 'the address is looked for once, at the start',
  IP6_AUTODETECTION_INTERVAL: 'the address is looked for once, at the start',
  CALICO_UNKNOWN_NODE_IP: 'a node without address does not start',
  BGP_LOGSEVERITYSCREEN: 'BGPConfiguration says how loud the speaker is',
  MULTI_INTERFACE_MODE: 'a pod has one device of ours',
};

const ours = /^(CALICO|IP|IP6|NO_DEFAULT|BGP|ETCD)_/;

/** The variables that are set and that nothing here follows, by name. Those of FELIX_ are felix's to judge. */
export function idleVariables(env: Environment): Idle[] {
  return Object.keys(env)
    .filter((name) => env[name] !== undefined && env[name] !== '' && !read.includes(name) && !harmless.includes(name))
    .sort()
    .flatMap((variable): Idle[] => {
      const detail = missed[variable];
      if (detail !== undefined) return [{ variable, detail }];
      if (!ours.test(variable)) return [];
      const near = nearest(variable, read);
      return [{ variable, ...(near && { didYouMean: near }) }];
    });
}
