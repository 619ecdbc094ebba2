import type { DesiredSet, RuleText } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf, hostCidr } from '../../model/address.ts';
import type { Place } from './tunnels.ts';

/*
 * What the firewall has for tunnels: packets of a tunnel come from nodes of the cluster or not at all, as a foreign host
 * could inject packets into any pod otherwise.
 */

/**
 * Nodes of whom tunnel packets are taken; names are Calico's, `all-udp-net` ours.
 * @param others prefixes of either family besides
 */
export function hostSet(
  id: 'all-hosts-net' | 'all-vxlan-net' | 'all-udp-net',
  family: Family,
  peers: readonly Place[],
  others: readonly Cidr[] = [],
): DesiredSet {
  const besides = others.filter((cidr) => familyOf(cidr) === family);
  const members = new Set([...peers.map(({ underlay }) => hostCidr(underlay)), ...besides]);
  return { name: setName(id, family), type: 'hash:net', family, members };
}

/**
 * For INPUT. The network identifier tells our VXLAN: the 32 bits at octet 4 of its header, less the last reserved octet.
 * Other tunnels on the same port are not ours to judge.
 */
export function vxlanInput(family: Family, { port, id }: { readonly port: number; readonly id: number }): RuleText[] {
  const word = family === 4 ? '0>>22&0x3C@12' : '52';
  const ours = `-p udp --dport ${port} -m u32 --u32 "${word}>>8=0x${id.toString(16)}"`;
  const known = `-m set --match-set ${setName('all-vxlan-net', family)} src`;
  return [`${ours} ${known} -m addrtype --dst-type LOCAL -j ACCEPT`, `${ours} -m addrtype --dst-type LOCAL -j DROP`];
}

/** For INPUT of IPv4. Nothing in an IP-in-IP packet tells whose it is (RFC 2003), so all of it is ours to judge. */
export function ipipInput(): RuleText[] {
  const known = `-m set --match-set ${setName('all-hosts-net', 4)} src`;
  return [`-p 4 ${known} -m addrtype --dst-type LOCAL -j ACCEPT`, '-p 4 -j DROP'];
}

/** Rules of the userspace tunnel by chain. */
export interface UdpRules {
  readonly input: readonly RuleText[];
  readonly output: readonly RuleText[];
  readonly forward: readonly RuleText[];
}

export const noUdpRules: UdpRules = { input: [], output: [], forward: [] };

/**
 * For the userspace tunnel, IPv4. Datagrams come from nodes or not at all, and a host endpoint's policy does not hinder
 * them. A pod may send none: outgoing NAT would give them its node's address, and with it what only nodes may send.
 */
export function udpRules(port: number): UdpRules {
  const datagrams = `-p udp --dport ${port}`;
  const known = `-m set --match-set ${setName('all-udp-net', 4)}`;
  return {
    input: [
      `${datagrams} ${known} src -m addrtype --dst-type LOCAL -j ACCEPT`,
      `${datagrams} -m addrtype --dst-type LOCAL -j DROP`,
    ],
    output: [`${datagrams} --sport ${port} ${known} dst -m addrtype --src-type LOCAL -j ACCEPT`],
    forward: [`${datagrams} -m set ! --match-set ${setName('all-udp-net', 4)} src ${known} dst -j DROP`],
  };
}

/** For nat: what the node forwards into the tunnel for others, such as a node port's clients, has its address. */
export function tunnelNat(device: string): RuleText {
  const foreign = '-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL';
  return `-o ${device} ${foreign} -j MASQUERADE`;
}

function setName(id: string, family: Family): string {
  return `cali${family}0${id}`;
}
