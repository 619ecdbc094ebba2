import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, InputError } from '../base/errors.ts';
import { replaceFile } from './files.ts';

/*
 * The kubeconfig beside the network configuration, under Calico's name. Our launcher does without; plugins that are
 * chained to it and tools on the host look for it there.
 */

export const kubeconfigName = 'calico-kubeconfig';

/** By this line a kubeconfig is known for ours, which alone `removeKubeconfig` takes away. */
const head = '# Written by Margay, which renews the token at a quarter of its life.\n';

/** How the Kubernetes API is reached, and as whom. */
export interface ApiAccess {
  /** `https://10.96.0.1:443` */
  readonly server: string;
  /** Certificates of the authority, PEM; empty where the server's is not to be checked by one of its own. */
  readonly ca: string;
  readonly token: string;
}

/** YAML with one scalar a line. @throws InputError for a token that is no base64url and dots (RFC 7515 §7.1) */
export function formatKubeconfig({ server, ca, token }: ApiAccess): string {
  if (!/^[\w.~+/=-]+$/.test(token)) throw new InputError('token', undefined, 'a bearer token (RFC 6750 §2.1)');
  const authority = ca === '' ? [] : [`      certificate-authority-data: ${Buffer.from(ca).toString('base64')}`];
  return `${[
    `${head}apiVersion: v1`,
    'kind: Config',
    'clusters:',
    '  - name: local',
    '    cluster:',
    `      server: ${JSON.stringify(server)}`,
    ...authority,
    'users:',
    '  - name: margay',
    '    user:',
    `      token: ${token}`,
    'contexts:',
    '  - name: margay',
    '    context:',
    '      cluster: local',
    '      user: margay',
    'current-context: margay',
  ].join('\n')}\n`;
}

/** Root alone may read it. It replaces what another agent left there. @returns its path */
export async function writeKubeconfig(confDir: string, access: ApiAccess): Promise<string> {
  const file = join(confDir, kubeconfigName);
  await replaceFile(file, formatKubeconfig(access), 0o600);
  return file;
}

/** Whether one of ours is in the directory. */
export async function holdsKubeconfig(confDir: string): Promise<boolean> {
  try {
    return (await readFile(join(confDir, kubeconfigName), 'utf8')).startsWith(head);
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return false;
    throw thrown;
  }
}

/** Removes ours; another's, and absence, stay as they are. */
export async function removeKubeconfig(confDir: string): Promise<void> {
  if (await holdsKubeconfig(confDir)) await rm(join(confDir, kubeconfigName), { force: true });
}
