import type { RuleText } from '../../kernel/types.ts';
import type { LocalEndpoint } from './endpoints.ts';

/*
 * Limits on a pod's packets and TCP connections, as rules. What a pod sends too many packets of is dropped in raw
 * (raw.ts); the rest stands in filter, before policy.
 */

type Limited = Pick<LocalEndpoint, 'interfaceName' | 'wishes'>;

/** Whether the filter table limits the endpoint. */
export function isLimited({ wishes }: Limited): boolean {
  const { ingressPackets, ingressConnections, egressConnections } = wishes;
  return (ingressPackets ?? ingressConnections ?? egressConnections) !== undefined;
}

/** Drops the packets beyond the rate; none without a limit. As with bandwidth another rate needs another name. */
export function packetLimit({ interfaceName, wishes }: Limited, way: 'ingress' | 'egress'): RuleText[] {
  const limit = wishes[`${way}Packets`];
  if (!limit) return [];
  const { rate, burst } = limit;
  const name = `${interfaceName}-${way === 'ingress' ? 'to' : 'from'}-${rate}-${burst}`;
  const above = `--hashlimit-above ${rate}/sec --hashlimit-burst ${burst} --hashlimit-name ${name}`;
  return [`${way === 'ingress' ? '-o' : '-i'} ${interfaceName} -m hashlimit ${above} -j DROP`];
}

const toPods = 'cali-to-wl-limits';
const opened = 'cali-wl-connections';
const opens = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN';

/**
 * Chains for the filter table: those of limits, and rules that come first in chains of policy. A connection beyond the
 * limit is reset. The kernel keeps the count with the rule, so each rule is alone in its chain and lives as long as its
 * endpoint has this limit (the legacy backend writes whole tables, and begins to count anew).
 */
export function limitChains(endpoints: readonly Limited[], interfacePrefix: string): Map<string, readonly RuleText[]> {
  const chains = new Map<string, readonly RuleText[]>();
  const first: Record<'INPUT' | 'FORWARD' | 'OUTPUT', RuleText[]> = { INPUT: [], FORWARD: [], OUTPUT: [] };
  const rates = endpoints.flatMap((endpoint) => packetLimit(endpoint, 'ingress'));
  if (rates.length > 0) {
    chains.set(toPods, rates);
    for (const hook of ['FORWARD', 'OUTPUT'] as const) first[hook].push(`-o ${interfacePrefix}+ -j ${toPods}`);
  }
  const jumps = endpoints.flatMap(({ interfaceName, wishes }) => [
    ...connectionLimit(chains, `cali-ct-${interfaceName}`, `-o ${interfaceName}`, wishes.ingressConnections),
    ...connectionLimit(chains, `cali-cf-${interfaceName}`, `-i ${interfaceName}`, wishes.egressConnections),
  ]);
  if (jumps.length > 0) {
    chains.set(opened, jumps);
    for (const hook of ['INPUT', 'FORWARD', 'OUTPUT'] as const) first[hook].push(`${opens} -j ${opened}`);
  }
  for (const [hook, rules] of Object.entries(first)) if (rules.length > 0) chains.set(`cali-${hook}`, rules);
  return chains;
}

function connectionLimit(
  chains: Map<string, readonly RuleText[]>,
  chain: string,
  device: string,
  most: number | undefined,
): RuleText[] {
  if (most === undefined) return [];
  const above = `-m connlimit --connlimit-above ${most} --connlimit-mask 0`;
  chains.set(chain, [`-p tcp ${above} -j REJECT --reject-with tcp-reset`]);
  return [`${device} -j ${chain}`];
}
