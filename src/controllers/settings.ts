import { InputError } from '../base/errors.ts';
import { durationSeconds } from '../model/felix-configuration.ts';
import type { KubeControllersConfiguration } from '../model/kinds.ts';

/** What the controllers do. */
export interface Settings {
  readonly logLevel: string;
  readonly health: boolean;
  /** 0: none. */
  readonly metricsPort: number;
  /** Between two audits of addresses. */
  readonly auditSeconds: number;
  /** How long an address must have been lost before it is freed; 0: never. */
  readonly leakGraceSeconds: number;
  /** Nodes that are gone from Kubernetes, and what was theirs; freeing lost addresses. */
  readonly nodes: boolean;
  readonly syncLabels: boolean;
  readonly autoHostEndpoints: boolean;
  /** Which services of type LoadBalancer get addresses of pools; undefined: none. */
  readonly assignIps: 'AllServices' | 'RequestedServicesOnly' | undefined;
  /** What is copied from Kubernetes, where it is not the datastore itself. */
  readonly copies: {
    readonly policies: boolean;
    readonly namespaces: boolean;
    readonly serviceAccounts: boolean;
    readonly endpoints: boolean;
  };
}

export interface ReadSettings {
  readonly settings: Settings;
  /** Fields and variables that have no effect here. */
  readonly ignored: readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Controllers by their names in ENABLED_CONTROLLERS, and in the resource. */
const controllers = {
  node: 'node',
  policy: 'policy',
  namespace: 'namespace',
  serviceaccount: 'serviceAccount',
  workloadendpoint: 'workloadEndpoint',
  loadbalancer: 'loadBalancer',
} as const;

const unsupported = ['migration'];

/**
 * Calico's settings of its kube-controllers: ENABLED_CONTROLLERS, LOG_LEVEL, RECONCILER_PERIOD, SYNC_NODE_LABELS,
 * AUTO_HOST_ENDPOINTS and HEALTH_ENABLED win over the resource `default`, which wins over the defaults.
 * @throws InputError naming a variable
 */
export function readSettings(env: Environment, resource?: KubeControllersConfiguration): ReadSettings {
  const { spec } = resource ?? {};
  const node = spec?.controllers?.node;
  const { names, ignored } = enabledControllers(env, resource);
  const has = (name: keyof typeof controllers) => names.has(name);
  const settings: Settings = {
    logLevel: env['LOG_LEVEL'] || spec?.logSeverityScreen || 'info',
    health: switchOf(env, 'HEALTH_ENABLED') ?? spec?.healthChecks !== 'Disabled',
    metricsPort: spec?.prometheusMetricsPort ?? 9094,
    auditSeconds: secondsOf(env, 'RECONCILER_PERIOD') ?? atLeast(1, durationSeconds(node?.reconcilerPeriod ?? '5m')),
    leakGraceSeconds: durationSeconds(node?.leakGracePeriod ?? '15m'),
    nodes: has('node'),
    syncLabels: has('node') && (switchOf(env, 'SYNC_NODE_LABELS') ?? node?.syncLabels !== 'Disabled'),
    autoHostEndpoints:
      has('node') &&
      node?.hostEndpoint?.createDefaultHostEndpoint !== 'Disabled' &&
      (switchOf(env, 'AUTO_HOST_ENDPOINTS') ?? node?.hostEndpoint?.autoCreate === 'Enabled'),
    assignIps: has('loadbalancer') ? (spec?.controllers?.loadBalancer?.assignIPs ?? 'AllServices') : undefined,
    copies: {
      policies: has('policy'),
      namespaces: has('namespace'),
      serviceAccounts: has('serviceaccount'),
      endpoints: has('workloadendpoint'),
    },
  };
  return { settings, ignored: [...ignored, ...withoutEffect(env, resource)] };
}

function enabledControllers(env: Environment, resource: KubeControllersConfiguration | undefined) {
  const text = env['ENABLED_CONTROLLERS'];
  const ignored: string[] = [];
  const names = new Set<keyof typeof controllers>();
  const all = Object.keys(controllers) as (keyof typeof controllers)[];
  if (text) {
    for (const each of text.split(',').map((part) => part.trim().toLowerCase())) {
      const known = all.find((name) => name === each);
      if (known) names.add(known);
      else if (unsupported.includes(each)) ignored.push(`ENABLED_CONTROLLERS: ${each}`);
      else if (each !== '') throw new InputError('ENABLED_CONTROLLERS', each, `one of ${all.join(', ')}`);
    }
    return { names, ignored };
  }
  const parts = resource?.spec.controllers;
  for (const name of all) if (parts === undefined || parts[controllers[name]] !== undefined) names.add(name);
  return { names, ignored };
}

/** Fields of Calico's that are there and decide nothing here. */
function withoutEffect(env: Environment, resource: KubeControllersConfiguration | undefined): string[] {
  const { spec } = resource ?? {};
  const found: string[] = [];
  const note = (field: string, value: unknown) => value !== undefined && found.push(field);
  note('COMPACTION_PERIOD', env['COMPACTION_PERIOD'] || undefined);
  note('spec.etcdV3CompactionPeriod', spec?.['etcdV3CompactionPeriod']);
  const { hostEndpoint } = spec?.controllers?.node ?? {};
  note('spec.controllers.node.hostEndpoint.templates', hostEndpoint?.['templates']);
  for (const name of ['policy', 'workloadEndpoint', 'serviceAccount', 'namespace'] as const)
    note(`spec.controllers.${name}.reconcilerPeriod`, spec?.controllers?.[name]?.reconcilerPeriod);
  return found;
}

/** `enabled`, `true` and so on; undefined when unset. */
function switchOf(env: Environment, name: string): boolean | undefined {
  const text = env[name]?.toLowerCase();
  if (text === undefined || text === '') return undefined;
  if (['true', 'yes', 'enabled', '1'].includes(text)) return true;
  if (['false', 'no', 'disabled', '0'].includes(text)) return false;
  throw new InputError(name, env[name], 'enabled or disabled');
}

function secondsOf(env: Environment, name: string): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  const seconds = durationSeconds(text);
  if (!(seconds > 0)) throw new InputError(name, text, 'a duration such as 5m');
  return atLeast(1, seconds);
}

function atLeast(least: number, value: number): number {
  return Math.max(least, value);
}
