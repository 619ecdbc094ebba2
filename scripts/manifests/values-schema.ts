import { z } from 'zod';
import { settingKeys } from '../../src/felix/config.ts';

/*
 * What the chart's values may be. Names are closed: a misspelt one is refused by helm, where the agent would go on
 * without it.
 */

const pool = ['CIDR', 'IPIP', 'VXLAN', 'BLOCK_SIZE', 'NAT_OUTGOING', 'DISABLE_BGP_EXPORT', 'NODE_SELECTOR'];
const limits = [
  'ASPATHLENGTH',
  'BFDSESSIONS',
  'BMPQUEUEDOCTETS',
  'COMMUNITIES',
  'MESSAGEOCTETS',
  'PEERS',
  'QUEUEDOCTETS',
];

/** The probes have these from the chart; the node's name is each node's own. */
const fixed = ['FELIX_HEALTHENABLED', 'FELIX_HEALTHHOST', 'FELIX_HEALTHPORT'];

/** Variables that may be the same on all nodes and are no secrets. */
export const variables: readonly string[] = [
  ...['ETCD_ENDPOINTS', 'ETCD_CA_CERT_FILE', 'ETCD_CERT_FILE', 'ETCD_KEY_FILE', 'ETCD_NAMESPACE'],
  ...['IP', 'IP_AUTODETECTION_METHOD', 'IP6', 'IP6_AUTODETECTION_METHOD', 'AS', 'CALICO_ROUTER_ID'],
  ...['NO_DEFAULT_POOLS', 'CLUSTER_TYPE', 'CALICO_ADVERTISE_CLUSTER_IPS'],
  ...[4, 6].flatMap((family) => pool.map((name) => `CALICO_IPV${family}POOL_${name}`)),
  ...['CNI_CONF_NAME', 'CNI_MTU', 'CALICO_STARTUP_LOGLEVEL', 'MARGAY_LOG_LEVEL'],
  ...['MARGAY_BGPMETRICSENABLED', 'MARGAY_BGPMETRICSHOST', 'MARGAY_BGPMETRICSPORT', 'MARGAY_BGPNEXTHOPTRACKING'],
  ...['ENABLED_CONTROLLERS', 'LOG_LEVEL', 'RECONCILER_PERIOD', 'SYNC_NODE_LABELS', 'AUTO_HOST_ENDPOINTS'],
  ...limits.map((name) => `MARGAY_BGPMAX${name}`),
  ...[...settingKeys.keys()].map((name) => `FELIX_${name}`).filter((name) => !fixed.includes(name)),
];

const text = z.string();
const variable = text.describe('As text: --set-string, or in quotes.');

const config = z.strictObject({
  DATASTORE_TYPE: z.enum(['kubernetes', 'etcdv3']),
  CALICO_NETWORKING_BACKEND: z.enum(['bird', 'vxlan', 'none']),
  USE_POD_CIDR: z.enum(['true', 'false']),
  FELIX_HEALTHENABLED: z.literal('true').describe('The probes ask for it.'),
  ...Object.fromEntries(variables.map((name) => [name, variable.optional()])),
});

/** Empty, or the name of a Secret. It becomes part of a path. */
const secret = text.regex(/^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$/);
const directory = text.regex(/^\//);
const amounts = z.record(text, z.union([text, z.number()]));
const resources = z.strictObject({ requests: amounts.optional(), limits: amounts.optional() });
const toleration = z.strictObject({
  key: text.optional(),
  operator: z.enum(['Exists', 'Equal']).optional(),
  value: text.optional(),
  effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
});

/** values.yaml, with what helm adds to it in a chart of charts (`global`). */
export const valuesSchema = z.strictObject({
  image: text.min(1),
  imagePullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
  imagePullSecrets: z.array(z.strictObject({ name: text.min(1) })),
  config,
  calicoGroups: z.array(z.enum(['crd.projectcalico.org', 'projectcalico.org'])).min(1),
  etcd: z.strictObject({ secret }),
  bgp: z.strictObject({ secret, resources }),
  felix: z.strictObject({ securityContext: z.record(text, z.unknown()), resources }),
  controllers: z.strictObject({ replicas: z.int().min(0), resources }),
  cni: z.strictObject({ binDir: directory, confDir: directory }),
  nodeSelector: z.record(text, text),
  tolerations: z.array(toleration),
  global: z.looseObject({}).optional(),
});

/** values.schema.json, short lists of texts on one line. */
export function valuesSchemaText(): string {
  const schema = JSON.stringify(z.toJSONSchema(valuesSchema, { target: 'draft-7', io: 'input' }), undefined, 2);
  return `${schema.replaceAll(/\[\n\s+("[^[\]{}]*")\n\s+\]/g, onOneLine)}\n`;
}

function onOneLine(list: string, inside: string): string {
  const line = `[${inside.replaceAll(/,\n\s+/g, ', ')}]`;
  return line.length > 100 ? list : line;
}
