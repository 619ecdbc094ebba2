import type { DesiredTable, RuleText } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import type { Bandwidth } from '../../model/bandwidth.ts';
import type { LocalEndpoint } from './endpoints.ts';
import { packetLimit } from './limits.ts';

/** What the table needs to know of an endpoint. */
export type RawEndpoint = Pick<LocalEndpoint, 'interfaceName' | 'wishes'>;

const limitChain = 'cali-wl-limits';

/** Whether the table names the endpoint. */
export function isRawEndpoint({ wishes }: RawEndpoint): boolean {
  return wishes.egress !== undefined || wishes.egressPackets !== undefined || wishes.sourcePrefixes.length > 0;
}

/**
 * What is refused from pods before connection tracking sees it: sources that are not routed back to the device they
 * came from, unless the endpoint may send from them, messages that only routers and DHCP servers send, and what a pod
 * sends beyond its bandwidth and number of packets.
 *
 * The reverse path is looked up by the rpfilter match rather than by the rp_filter sysctl, so that it holds for IPv6
 * and whatever the node's sysctls say. `route_localnet` on the pods' devices would let a pod reach the node's loopback
 * services (CVE-2020-8558), so 127.0.0.0/8 is refused too.
 */
export function rawTable(
  family: Family,
  interfacePrefix: string,
  endpoints: readonly RawEndpoint[] = [],
): DesiredTable {
  const limits = endpoints.flatMap((endpoint) => [limitOf(endpoint) ?? [], packetLimit(endpoint, 'egress')].flat());
  const allowed = endpoints.flatMap((endpoint) => allowedOf(endpoint, family));
  const refused = family === 4 ? refused4 : refused6;
  const fromPods = `-i ${interfacePrefix}+`;
  return {
    chains: new Map([
      [
        'cali-PREROUTING',
        [...(limits.length > 0 ? [`${fromPods} -j ${limitChain}`] : []), `${fromPods} -j cali-from-wl-raw`],
      ],
      ...(limits.length > 0 ? [[limitChain, limits] as const] : []),
      ['cali-from-wl-raw', allowed.length > 0 ? [...refused, ...allowed, reversePath] : [reversePath, ...refused]],
    ]),
    insertions: new Map([['PREROUTING', ['-j cali-PREROUTING']]]),
  };
}

const reversePath: RuleText = '-m rpfilter --invert -j DROP';

const refused4: readonly RuleText[] = ['-d 127.0.0.0/8 -j DROP', '-p udp --sport 67 --dport 68 -j DROP'];

const refused6: readonly RuleText[] = [
  '-p ipv6-icmp --icmpv6-type 134 -j DROP',
  '-p udp --sport 547 --dport 546 -j DROP',
];

function allowedOf({ interfaceName, wishes }: RawEndpoint, family: Family): RuleText[] {
  return wishes.sourcePrefixes
    .filter((prefix) => familyOf(prefix) === family)
    .map((prefix) => `-i ${interfaceName} -s ${prefix} -j RETURN`);
}

/**
 * The limit has its rate in its name: a table of the kernel's that has the name already is taken as it is
 * (net/netfilter/xt_hashlimit.c), so that another rate needs another name.
 */
function limitOf({ interfaceName, wishes }: RawEndpoint): RuleText | undefined {
  if (!wishes.egress || wishes.egress.rate > 8 * (mostOctets / 2)) return undefined;
  const { rate, burst } = octetsOf(wishes.egress);
  const name = `${interfaceName}-${rate}-${burst}`;
  return `-i ${interfaceName} -m hashlimit --hashlimit-above ${rate}b/s --hashlimit-burst ${burst}b --hashlimit-name ${name} -j DROP`;
}

/** hashlimit counts in units of 16 octets, wants a burst of a second at least, and holds no rate beyond 16 Gbit/s. */
const mostOctets = 4e9;

function octetsOf({ rate, burst }: Bandwidth): { readonly rate: number; readonly burst: number } {
  const octets = Math.ceil(rate / 128) * 16;
  const wanted = Math.ceil((burst ?? 0) / 128) * 16;
  return { rate: octets, burst: Math.min(mostOctets, Math.max(2 * octets, wanted)) };
}
