import { EnvironmentError } from '../../base/errors.ts';
import type { Family } from '../../model/address.ts';
import { type Launch, runCommand } from '../command.ts';

/** Which of the kernel's two packet filters the iptables programs drive: x_tables or nf_tables. */
export type Backend = 'legacy' | 'nft';

/** What programs leave in `mangle` and so tell which backend they use: kubelet, whose word counts first, and kube-proxy. */
const hints = [/^:(KUBE-IPTABLES-HINT|KUBE-KUBELET-CANARY) /m, /^:KUBE-PROXY-CANARY /m] as const;

/**
 * The backend that the node's kubelet uses, or its kube-proxy; without either, that of the host's `iptables`. Both at
 * once would filter every packet twice and each be blind for the other's rules.
 * A backend without programs here is nobody's on this node.
 * @throws EnvironmentError when the programs are missing or do not say
 */
export async function detectBackend(launch: Launch = {}): Promise<Backend> {
  const options = { ...launch, package: 'iptables' };
  const saved: [Backend, string][] = [];
  for (const backend of ['nft', 'legacy'] as const) {
    const text = await savedRules(4, backend, launch);
    if (text !== undefined) saved.push([backend, mangleOf(text)]);
  }
  for (const hint of hints) for (const [backend, mangle] of saved) if (hint.test(mangle)) return backend;
  const { stdout } = await runCommand(['iptables', '--version'], options);
  if (stdout.includes('nf_tables')) return 'nft';
  if (stdout.startsWith('iptables v')) return 'legacy';
  throw new EnvironmentError(`iptables --version says ${JSON.stringify(stdout.trim())}`, 'set FELIX_IPTABLESBACKEND');
}

/**
 * What a backend's save program says of all tables; empty when it fails, as in a kernel without that backend. Without a
 * table's name, since naming a table would create it.
 * @returns undefined where the program is not installed
 */
export async function savedRules(family: Family, backend: Backend, launch: Launch = {}): Promise<string | undefined> {
  const program = `ip${family === 6 ? '6' : ''}tables-${backend}-save`;
  try {
    const { status, stdout } = await runCommand([program], { ...launch, package: 'iptables' });
    return status === 0 ? stdout : '';
  } catch (thrown) {
    if (thrown instanceof EnvironmentError) return undefined;
    throw thrown;
  }
}

/** Its part of what a save program says; empty without the table. */
function mangleOf(saved: string): string {
  const start = saved.indexOf('*mangle\n');
  return start < 0 ? '' : saved.slice(start, saved.indexOf('\nCOMMIT', start));
}
