/**
 * Where the dispatch chains send the packets of a pod's device: the chain of its policy.
 * @param rules of the filter table, as rendered, or as iptables-save prints them
 */
export function chainOf(
  rules: Iterable<string> | undefined,
  device: string,
  direction: 'ingress' | 'egress',
): string | undefined {
  const flag = direction === 'ingress' ? '-o' : '-i';
  for (const rule of rules ?? []) {
    const [, found] =
      new RegExp(`(?:^|\\s)${flag} ${device} (?:-m comment --comment \\S+ )?-g (cali-[ft]w-\\S+)$`).exec(rule) ?? [];
    if (found !== undefined) return found;
  }
  return undefined;
}

/** All rules of a table. */
export function rulesOf(table: { readonly chains: ReadonlyMap<string, readonly string[]> } | undefined): string[] {
  return [...(table?.chains.values() ?? [])].flat();
}
