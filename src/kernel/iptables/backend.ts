import { EnvironmentError } from '../../base/errors.ts';
import { type Launch, runCommand } from '../command.ts';

/** Which of the kernel's two packet filters the iptables programs drive: x_tables or nf_tables. */
export type Backend = 'legacy' | 'nft';

/** Chains that kubelet leaves in `mangle` so that others find the backend that it uses. */
const hints = /^:(KUBE-IPTABLES-HINT|KUBE-KUBELET-CANARY) /m;

/**
 * The backend that the node's kubelet uses; without one, that of the host's `iptables`. Both at once would filter every
 * packet twice and each be blind for the other's rules.
 * @throws EnvironmentError when the programs are missing or do not say
 */
export async function detectBackend(launch: Launch = {}): Promise<Backend> {
  const options = { ...launch, package: 'iptables' };
  for (const backend of ['nft', 'legacy'] as const) {
    // Without -t: naming a table would create it.
    const { status, stdout } = await runCommand([`iptables-${backend}-save`], options);
    if (status === 0 && inMangle(stdout)) return backend;
  }
  const { stdout } = await runCommand(['iptables', '--version'], options);
  if (stdout.includes('nf_tables')) return 'nft';
  if (stdout.startsWith('iptables v')) return 'legacy';
  throw new EnvironmentError(`iptables --version says ${JSON.stringify(stdout.trim())}`, 'set FELIX_IPTABLESBACKEND');
}

function inMangle(saved: string): boolean {
  const start = saved.indexOf('*mangle\n');
  return start >= 0 && hints.test(saved.slice(start, saved.indexOf('\nCOMMIT', start)));
}
