import { posix } from 'node:path';
import { InputError } from '../base/errors.ts';
import type { Conflist } from './client.ts';
import { parseConfig, unknownFields } from './config.ts';
import { CniError } from './error.ts';
import { kubeconfigName } from './kubeconfig.ts';

/*
 * CNI_NETWORK_CONFIG of Calico's install-cni: the network configuration as a template, whose places `__NAME__` are filled
 * when it is installed. Of the plugins in it Calico's own becomes ours; those chained to it stay.
 */

const field = 'CNI_NETWORK_CONFIG';

export interface Places {
  readonly nodename: string;
  /** 0 leaves it to the agent. */
  readonly mtu: number;
  /** Values of the environment, for places that are named after a variable. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface Rendered {
  readonly conflist: Conflist;
  /** Fields of Calico's plugin that are left out, as nothing here follows them. */
  readonly dropped: readonly string[];
}

/** Template → configuration. Pure. @throws InputError naming CNI_NETWORK_CONFIG and the place or field that is wrong */
export function networkConfigOf(template: string, places: Places, pluginType: string): Rendered {
  const text = template.replaceAll(/__([A-Z0-9_]+?)__/g, (place, name: string) => {
    const value = placeOf(name, places);
    if (value === undefined) throw new InputError(field, place, 'a place that is known, or a variable that is set');
    return JSON.stringify(value).slice(1, -1);
  });
  const found = parsed(text);
  const plugins: readonly unknown[] = Array.isArray(found['plugins']) ? found['plugins'] : [found];
  if (!plugins.every(isPlugin)) throw new InputError(`${field}.plugins`, plugins, 'plugins with their types');
  const own = plugins.findIndex(({ type }) => type === 'calico' || type === pluginType);
  const plugin = plugins[own];
  if (plugin === undefined) throw new InputError(`${field}.plugins`, plugins, 'a plugin of type calico');
  const { name, cniVersion = '0.3.1' } = found;
  if (typeof name !== 'string') throw new InputError(`${field}.name`, name, 'the name of the network');
  if (typeof cniVersion !== 'string') throw new InputError(`${field}.cniVersion`, cniVersion, 'a version');
  const { name: _n, cniVersion: _v, plugins: _p, ...rest } = plugin;
  const dropped = unknownFields(rest);
  const kept = { ...without(rest, dropped), type: pluginType };
  check({ cniVersion, name, ...kept });
  return { conflist: { cniVersion, name, plugins: plugins.with(own, kept) }, dropped };
}

type Plugin = { readonly type: string } & Readonly<Record<string, unknown>>;

function isPlugin(value: unknown): value is Plugin {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** Objects of which single fields are left out. */
const nested = new Set(['ipam', 'feature_control']);

function without(plugin: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> {
  const outer = Object.entries(plugin).filter(([name]) => !names.includes(name));
  return Object.fromEntries(
    outer.map(([name, value]) => {
      if (!nested.has(name) || typeof value !== 'object' || value === null) return [name, value];
      return [name, Object.fromEntries(Object.entries(value).filter(([inner]) => !names.includes(`${name}.${inner}`)))];
    }),
  );
}

/** The agent would refuse it at the first pod otherwise. @throws InputError */
function check(plugin: Record<string, unknown>): void {
  try {
    parseConfig(plugin, false);
  } catch (cause) {
    if (!(cause instanceof CniError)) throw cause;
    throw new InputError(field, plugin, `a configuration that the agent takes: ${cause.message}`, { cause });
  }
}

function placeOf(name: string, { nodename, mtu, env }: Places): string | undefined {
  switch (name) {
    case 'KUBERNETES_NODE_NAME':
      return nodename;
    case 'CNI_MTU':
      return String(mtu);
    case 'LOG_LEVEL':
      return env['LOG_LEVEL'] || 'info';
    case 'KUBECONFIG_FILENAME':
      return kubeconfigName;
    // On the host, for plugins that are chained to ours.
    case 'KUBECONFIG_FILEPATH':
      return posix.join(env['CNI_NET_DIR'] || '/etc/cni/net.d', kubeconfigName);
    // It would outlive itself in a file that is not renewed.
    case 'SERVICEACCOUNT_TOKEN':
      return '';
    default:
      return env[name] ?? env[name.replace(/^ETCD_(CA_CERT|CERT|KEY)$/, 'ETCD_$1_FILE')];
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === 'object' && found !== null && !Array.isArray(found)) return found as Record<string, unknown>;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new InputError(field, text, 'JSON once its places are filled', { cause });
  }
  throw new InputError(field, text, 'a JSON object');
}
