/**
 * How many generated worlds a property of policy tries: some in the usual run, or as many as MARGAY_POLICY_CASES says, for
 * `npm run test:policy-cases`.
 */
export function worlds(usual: number): number {
  const asked = process.env['MARGAY_POLICY_CASES'];
  if (!asked) return usual;
  const count = Number(asked);
  if (!Number.isInteger(count) || count < 1) throw new Error(`MARGAY_POLICY_CASES: ${asked}`);
  return count;
}

/** For tests of as many worlds; the usual ones keep within the layer's limit. */
export const worldsTimeout = process.env['MARGAY_POLICY_CASES'] ? { timeout: 3_600_000 } : {};
