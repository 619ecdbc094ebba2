/**
 * How many generated worlds a property of policy tries: some in the usual run, or as many as MARGAY_POLICY_CASES says, for
 * `npm run test:policy-cases`.
 */
export function worlds(usual: number): number {
  return countOf('MARGAY_POLICY_CASES') ?? usual;
}

function countOf(variable: string): number | undefined {
  const asked = process.env[variable];
  if (!asked) return undefined;
  const count = Number(asked);
  if (!Number.isInteger(count) || count < 1) throw new Error(`${variable}: ${asked}`);
  return count;
}

/** For tests of as many worlds; the usual ones keep within the layer's limit. */
export const worldsTimeout =
  process.env['MARGAY_POLICY_CASES'] || process.env['MARGAY_KERNEL_CASES'] ? { timeout: 3_600_000 } : {};

/** The same for worlds that are tried in the kernel: MARGAY_KERNEL_CASES of each kind and backend. */
export function kernelWorlds(usual: number): number {
  return countOf('MARGAY_KERNEL_CASES') ?? usual;
}
