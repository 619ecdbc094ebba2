import type { DesiredTable, RuleText } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';

/**
 * What is refused from pods before connection tracking sees it: sources that are not routed back to the device they
 * came from, and messages that only routers and DHCP servers send.
 *
 * The reverse path is looked up by the rpfilter match rather than by the rp_filter sysctl, so that it holds for IPv6
 * and whatever the node's sysctls say. `route_localnet` on the pods' devices would let a pod reach the node's loopback
 * services (CVE-2020-8558), so 127.0.0.0/8 is refused too.
 */
export function rawTable(family: Family, interfacePrefix: string): DesiredTable {
  return {
    chains: new Map([
      ['cali-PREROUTING', [`-i ${interfacePrefix}+ -j cali-from-wl-raw`]],
      ['cali-from-wl-raw', ['-m rpfilter --invert -j DROP', ...(family === 4 ? refused4 : refused6)]],
    ]),
    insertions: new Map([['PREROUTING', ['-j cali-PREROUTING']]]),
  };
}

const refused4: readonly RuleText[] = ['-d 127.0.0.0/8 -j DROP', '-p udp --sport 67 --dport 68 -j DROP'];

const refused6: readonly RuleText[] = [
  '-p ipv6-icmp --icmpv6-type 134 -j DROP',
  '-p udp --sport 547 --dport 546 -j DROP',
];
