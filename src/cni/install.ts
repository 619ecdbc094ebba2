import { access, constants, mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { EnvironmentError, errorCode, InputError } from '../base/errors.ts';
import type { Conflist } from './client.ts';
import { supportedVersions } from './config.ts';
import { replaceExecutable, replaceFile } from './files.ts';
import { type ApiAccess, removeKubeconfig, writeKubeconfig } from './kubeconfig.ts';

/*
 * Puts the plugin where a container runtime looks for it, and takes it away. Every file appears whole or not at all,
 * and the network configuration last: with it the runtime calls the node ready.
 */

/** Name of the executable, and the `type` in the network configuration. */
export const pluginType = 'margay';

export interface Installation {
  /** Where runtimes look for network configurations, `/etc/cni/net.d`. */
  readonly confDir: string;
  /** Where they look for plugins, `/opt/cni/bin`. */
  readonly binDir: string;
  /** File name of the network configuration; runtimes take the first in the order of the alphabet. */
  readonly confName?: string;
}

export interface InstallRequest extends Installation {
  /** The built launcher. */
  readonly launcher: string;
  /** The agent's socket, `<MARGAY_RUN_DIR>/cni.sock`. */
  readonly socketPath: string;
  /** Where the launcher leaves DELs while no agent answers, `<MARGAY_LIB_DIR>/cni-queue`. */
  readonly queueDir: string;
  readonly conflist?: Conflist;
  /** For a kubeconfig beside the network configuration. */
  readonly access?: ApiAccess;
}

const defaultConfName = '10-margay.conflist';

/**
 * The network configuration that a cluster starts with. An MTU of 0 or none leaves it to the agent.
 * @param options.podCidr addresses are of the node's podCIDR
 */
export function defaultConflist(
  options: { readonly mtu?: number; readonly cniVersion?: string; readonly podCidr?: boolean } = {},
): Conflist {
  const { mtu, cniVersion = '1.0.0', podCidr = false } = options;
  if (!supportedVersions.some((version) => version === cniVersion)) {
    throw new InputError('cniVersion', cniVersion, `one of ${supportedVersions.join(', ')}`);
  }
  return {
    cniVersion,
    name: 'k8s-pod-network',
    plugins: [
      {
        type: pluginType,
        ...(mtu !== undefined && { mtu }),
        ipam: podCidr ? { type: 'host-local', subnet: 'usePodCidr' } : { type: 'margay-ipam' },
        policy: { type: 'k8s' },
        // The runtime then passes on what a pod's annotations say (kubernetes.io/ingress-bandwidth).
        capabilities: { bandwidth: true },
      },
    ],
  };
}

/** @throws EnvironmentError when the launcher is missing or a folder cannot be written */
export async function installCni(request: InstallRequest): Promise<void> {
  const { launcher, socketPath, queueDir, confDir, binDir } = request;
  for (const [name, file] of Object.entries({ socketPath, queueDir }))
    if (!path.isAbsolute(file) || /[\r\n]/.test(file)) throw new InputError(name, file, 'an absolute path');
  if (Buffer.byteLength(socketPath) > 107) throw new InputError('socketPath', socketPath, 'at most 107 octets');
  await readable(launcher);
  const plugin = path.join(binDir, pluginType);
  await writable(binDir);
  await writable(confDir);
  await writeAtomically(`${plugin}.socket`, `${socketPath}\n${queueDir}\n`);
  await replaceExecutable(launcher, plugin);
  if (request.access !== undefined) await writeKubeconfig(confDir, request.access);
  await writeAtomically(confFile(request), `${JSON.stringify(request.conflist ?? defaultConflist(), null, 2)}\n`);
}

/** Removes what `installCni` wrote; absence is success. The network configuration goes first. */
export async function uninstallCni(installation: Installation): Promise<void> {
  const plugin = path.join(installation.binDir, pluginType);
  for (const file of [confFile(installation), plugin, `${plugin}.socket`]) await rm(file, { force: true });
  await removeKubeconfig(installation.confDir);
}

function confFile({ confDir, confName = defaultConfName }: Installation): string {
  if (!/^[\w.-]+\.conflist$/.test(confName))
    throw new InputError('confName', confName, 'a file name ending in .conflist');
  return path.join(confDir, confName);
}

async function readable(launcher: string): Promise<void> {
  try {
    await access(launcher, constants.R_OK);
  } catch (cause) {
    throw new EnvironmentError(
      `the CNI launcher ${launcher} cannot be read`,
      'build it with scripts/build-launcher.sh',
      {
        cause,
      },
    );
  }
}

async function writable(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw new EnvironmentError(
      `${folder} cannot be written (${errorCode(cause)})`,
      'run as root, or name another folder',
      {
        cause,
      },
    );
  }
}

async function writeAtomically(file: string, text: string): Promise<void> {
  const current = await readFile(file, 'utf8').catch((thrown: unknown) => {
    if (errorCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  });
  if (current === text) return;
  await replaceFile(file, text);
}
