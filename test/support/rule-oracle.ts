import { BlockList } from 'node:net';

/*
 * What Calico's reference says of the fields of one rule of a NetworkPolicy, straight on the rule. It shares nothing with
 * the code under test. Selectors come as text with what they mean.
 */

export interface Chosen {
  readonly text: string;
  readonly holds: (labels: Readonly<Record<string, string>>) => boolean;
}

export interface End {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: Chosen;
  readonly notSelector?: Chosen;
  readonly namespaceSelector?: Chosen;
  readonly accounts?: readonly string[];
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
}

export interface FieldRule {
  readonly action: 'Allow' | 'Deny';
  readonly ipVersion?: 4 | 6;
  readonly protocol?: string | number;
  readonly notProtocol?: string | number;
  readonly icmp?: { readonly type: number; readonly code?: number };
  readonly notICMP?: { readonly type: number; readonly code?: number };
  readonly source?: End;
  readonly destination?: End;
}

export interface FieldPod {
  readonly name: string;
  readonly namespace: string;
  readonly account: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

export interface FieldPacket {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}

const numbers: Readonly<Record<string, number>> = { ICMP: 1, TCP: 6, UDP: 17, ICMPv6: 58, SCTP: 132, UDPLite: 136 };
const number = (protocol: string | number) => (typeof protocol === 'number' ? protocol : numbers[protocol]);

export interface FieldWorld {
  readonly pods: readonly FieldPod[];
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** Whether a rule of a policy in the namespace matches the packet. */
export function ruleMatches(world: FieldWorld, namespace: string, rule: FieldRule, packet: FieldPacket): boolean {
  const family = packet.source.includes(':') ? 6 : 4;
  if (rule.ipVersion !== undefined && rule.ipVersion !== family) return false;
  if (rule.protocol !== undefined && number(rule.protocol) !== packet.protocol) return false;
  if (rule.notProtocol !== undefined && number(rule.notProtocol) === packet.protocol) return false;
  const same = (wanted: { readonly type: number; readonly code?: number }) =>
    wanted.type === packet.icmp?.type && (wanted.code === undefined || wanted.code === packet.icmp.code);
  if (rule.icmp && !same(rule.icmp)) return false;
  if (rule.notICMP && same(rule.notICMP)) return false;
  return (
    endMatches(world, namespace, rule.source ?? {}, packet.source, packet.sourcePort, packet.protocol) &&
    endMatches(world, namespace, rule.destination ?? {}, packet.destination, packet.destinationPort, packet.protocol)
  );
}

function endMatches(
  world: FieldWorld,
  namespace: string,
  end: End,
  address: string,
  port: number | undefined,
  protocol: number,
): boolean {
  const holders = world.pods.filter(({ addresses }) => addresses.includes(address));
  if (end.nets && !end.nets.some((net) => within(net, address))) return false;
  if (end.notNets?.some((net) => within(net, address))) return false;
  if (end.selector || end.notSelector || end.accounts || end.namespaceSelector) {
    const here = ({ namespace: own }: FieldPod) =>
      end.namespaceSelector ? end.namespaceSelector.holds(world.namespaces[own] ?? {}) : own === namespace;
    const chosen = holders.some(
      (pod) =>
        here(pod) &&
        (end.selector?.holds(pod.labels) ?? true) &&
        (end.accounts === undefined || end.accounts.includes(pod.account)),
    );
    if (!chosen) return false;
  }
  if (end.notSelector && holders.some(({ labels }) => end.notSelector?.holds(labels))) return false;
  const onPort = (wanted: number | string) => {
    const [, first, last] = /^(\d+)(?::(\d+))?$/.exec(String(wanted)) ?? [];
    if (first !== undefined) return port !== undefined && Number(first) <= port && port <= Number(last ?? first);
    return holders.some(({ ports }) =>
      ports.some((each) => each.name === wanted && numbers[each.protocol] === protocol && each.port === port),
    );
  };
  if (end.ports && !end.ports.some(onPort)) return false;
  return !end.notPorts?.some(onPort);
}

function within(net: string, address: string): boolean {
  const family = net.includes(':') ? 'ipv6' : 'ipv4';
  if (address.includes(':') !== (family === 'ipv6')) return false;
  const [base = '', length = ''] = net.split('/');
  const list = new BlockList();
  list.addSubnet(base, Number(length), family);
  return list.check(address, family);
}
