import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import type { Conflist } from '../cni/client.ts';
import { defaultConflist, installCni as install, pluginType, uninstallCni as uninstall } from '../cni/install.ts';
import { networkConfigOf } from '../cni/network-config.ts';
import { issuedAccess } from './cni-access.ts';
import { cniQueueDir, type Environment, logLevel, nodename, runDir, usesPodCidr } from './environment.ts';

export interface CniDirectories {
  readonly binDir: string;
  readonly confDir: string;
}

/** The launcher, built beside this program. */
export function launcherPath(): string {
  return join(dirname(fileURLToPath(import.meta.url)), 'margay-cni');
}

/** `margay cni install`: CNI_CONF_NAME, CNI_MTU and CNI_NETWORK_CONFIG as in Calico's install-cni. */
export async function installCni(env: Environment, { binDir, confDir }: CniDirectories): Promise<void> {
  const mtu = mtuOf(env);
  const access = await issuedAccess(env, createLog('cni', logLevel(env)));
  await install({
    binDir,
    confDir,
    ...confName(env),
    launcher: launcherPath(),
    socketPath: join(runDir(env), 'cni.sock'),
    queueDir: cniQueueDir(env),
    conflist: conflistOf(env, mtu),
    ...(access && { access }),
  });
  process.stdout.write(`the CNI plugin is in ${binDir}, its network configuration in ${confDir}\n`);
}

/** CNI_NETWORK_CONFIG with its places filled, as Calico's install-cni takes it; without it, our own. */
function conflistOf(env: Environment, mtu: number | undefined): Conflist {
  const template = env['CNI_NETWORK_CONFIG'];
  if (!template) return defaultConflist({ ...(mtu !== undefined && { mtu }), podCidr: usesPodCidr(env) });
  const name = env['KUBERNETES_NODE_NAME'] || nodename(env);
  const { conflist, dropped } = networkConfigOf(template, { nodename: name, mtu: mtu ?? 0, env }, pluginType);
  if (dropped.length > 0)
    process.stderr.write(`CNI_NETWORK_CONFIG: left out, as it has no effect: ${dropped.join(', ')}\n`);
  return conflist;
}

/** `margay cni uninstall`. */
export async function uninstallCni(env: Environment, { binDir, confDir }: CniDirectories): Promise<void> {
  await uninstall({ binDir, confDir, ...confName(env) });
  process.stdout.write(`the CNI plugin is gone from ${binDir} and ${confDir}\n`);
}

function confName(env: Environment): { confName?: string } {
  return env['CNI_CONF_NAME'] ? { confName: env['CNI_CONF_NAME'] } : {};
}

/** CNI_MTU; 0 and nothing leave it to the agent. @throws InputError */
export function mtuOf(env: Environment): number | undefined {
  const text = env['CNI_MTU'];
  if (!text || text === '0') return undefined;
  if (!/^\d+$/.test(text) || Number(text) < 1280 || Number(text) > 65535)
    throw new InputError('CNI_MTU', text, 'a number from 1280 to 65535, or 0');
  return Number(text);
}
