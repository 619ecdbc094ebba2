import { hostname } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../base/errors.ts';
import { parseLevel } from '../base/log-level.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where the sockets of a node's processes are, unless MARGAY_RUN_DIR says otherwise. */
export const defaultRunDir = '/var/run/margay';

/** MARGAY_RUN_DIR: the folder of `cni.sock`, `felix.sock`, `bgp.sock` and `routes.sock`. */
export function runDir(env: Environment): string {
  return env['MARGAY_RUN_DIR'] || defaultRunDir;
}

/**
 * Where the launcher and felix keep the CNI DELs that wait: in MARGAY_LIB_DIR, by default /var/lib/margay, which outlives
 * a reboot.
 */
export function cniQueueDir(env: Environment): string {
  return join(env['MARGAY_LIB_DIR'] || '/var/lib/margay', 'cni-queue');
}

/** NODENAME, or the host's name in lower case. @throws InputError when it cannot name a Node resource */
export function nodename(env: Environment): string {
  const name = env['NODENAME'] || hostname().toLowerCase();
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name))
    throw new InputError('NODENAME', name, 'a DNS subdomain in lower case, such as rack7-n3');
  return name;
}

/** `true`/`false` in Calico's spellings; undefined when unset or empty. @throws InputError */
export function booleanOf(env: Environment, name: string): boolean | undefined {
  const text = env[name]?.toLowerCase();
  if (text === undefined || text === '') return undefined;
  if (['true', 'yes', 't', 'y', '1', 'enabled'].includes(text)) return true;
  if (['false', 'no', 'f', 'n', '0', 'disabled'].includes(text)) return false;
  throw new InputError(name, env[name], 'true or false');
}

const backends = ['bird', 'vxlan', 'none'];

/**
 * Whether the node runs the BGP speaker: CALICO_NETWORKING_BACKEND `bird` (default), as opposed to `vxlan` and `none`,
 * where routes come from the datastore alone. @throws InputError
 */
export function hasBgp(env: Environment): boolean {
  const backend = env['CALICO_NETWORKING_BACKEND'] || 'bird';
  if (!backends.includes(backend))
    throw new InputError('CALICO_NETWORKING_BACKEND', backend, `one of ${backends.join(', ')}`);
  return backend === 'bird';
}

/** USE_POD_CIDR: pods have addresses of the range that Kubernetes gives their node. @throws InputError */
export function usesPodCidr(env: Environment): boolean {
  return booleanOf(env, 'USE_POD_CIDR') ?? false;
}

/** Where addresses of podCIDRs are held: the reference plugin's place, unless MARGAY_CNI_NETWORKS_DIR says otherwise. */
export function podCidrDir(env: Environment): string {
  return env['MARGAY_CNI_NETWORKS_DIR'] || '/var/lib/cni/networks';
}

/**
 * What the programs log, by Calico's names for the node (`FELIX_LOGSEVERITYSCREEN` is felix's own). @throws InputError naming
 * the variable
 */
export function logLevel(env: Environment): string {
  const name = ['MARGAY_LOG_LEVEL', 'CALICO_STARTUP_LOGLEVEL'].find((each) => env[each]);
  return name === undefined ? 'info' : parseLevel(env[name] ?? '', name);
}
