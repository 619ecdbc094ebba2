import { BlockList } from 'node:net';
import type { DesiredSet, DesiredTable } from '../../src/kernel/types.ts';

/*
 * The part of iptables that rendered policy uses, as its manual pages describe it, for the first packet of a
 * connection. What it does not know it refuses, so that no condition is passed over.
 */

export interface WirePacket {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly input: string;
  readonly output: string;
  /** That it carries from an earlier table. */
  readonly mark?: number;
  /** Whether its destination is not the host itself. */
  readonly forwarded?: boolean;
}

const protocolNumbers: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132, udplite: 136, 'ipv6-icmp': 58 };
const portNames: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/** The rule that made a verdict: its chain, and its place there from 0. */
export interface Decided {
  readonly chain: string;
  readonly at: number;
}

/** What becomes of a packet that enters a chain, as if by a jump: `RETURN` when the chain ends. */
export function traverse(
  { chains }: DesiredTable,
  sets: ReadonlyMap<string, DesiredSet>,
  entry: string,
  packet: WirePacket,
): {
  readonly end: 'ACCEPT' | 'DROP' | 'RETURN';
  readonly mark: number;
  readonly told: readonly string[];
  readonly decided?: Decided;
} {
  let mark = packet.mark ?? 0;
  const told: string[] = [];
  let decided: Decided | undefined;
  const enter = (chain: string): 'ACCEPT' | 'DROP' | 'RETURN' => {
    const rules = chains.get(chain);
    if (!rules) throw new Error(`no chain ${chain}`);
    for (const [at, rule] of rules.entries()) {
      const words = rule.match(/"[^"]*"|\S+/g) ?? [];
      const target = words.findIndex((word) => word === '-j' || word === '-g');
      if (!conditions(words.slice(0, target)).every((holds) => holds)) continue;
      const [how, name = '', ...options] = words.slice(target);
      if (name === 'DROP' || name === 'cali-set-accept') decided = { chain, at };
      if (name === 'ACCEPT' || name === 'DROP' || name === 'RETURN') return name;
      if (name === 'LOG' || name === 'CT') continue;
      if (name === 'NFLOG') {
        told.push((options.at(-1) ?? '').replaceAll('"', ''));
        continue;
      }
      if (name === 'MARK') {
        const [value = 0, mask = 0] = (options[1] ?? '').split('/').map(Number);
        mark = (mark & ~mask) ^ value;
        continue;
      }
      const end = enter(name);
      if (end !== 'RETURN' || how === '-g') return end;
    }
    return 'RETURN';
  };
  const conditions = (words: string[]): boolean[] => {
    const found: boolean[] = [];
    const queue = [...words];
    let negated = false;
    for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
      if (word === '-m') queue.shift();
      else if (word === '!') negated = true;
      else {
        found.push(holds(word, queue) !== negated);
        negated = false;
      }
    }
    return found;
  };
  const holds = (option: string, rest: string[]): boolean => {
    const value = rest.shift() ?? '';
    switch (option) {
      case '--limit':
      case '--limit-burst':
        return true;
      case '-p':
        return (protocolNumbers[value] ?? Number(value)) === packet.protocol;
      case '-s':
        return inNet(value, packet.source);
      case '-d':
        return inNet(value, packet.destination);
      case '-i':
        return sameDevice(value, packet.input);
      case '-o':
        return sameDevice(value, packet.output);
      case '--sports':
        return inPorts(value, packet.sourcePort);
      case '--dports':
        return inPorts(value, packet.destinationPort);
      case '--icmp-type':
      case '--icmpv6-type': {
        const [type, code] = value.split('/').map(Number);
        return packet.icmp?.type === type && (code === undefined || packet.icmp?.code === code);
      }
      case '--ctstate':
        return value.split(',').includes('NEW');
      case '--mark': {
        const [wanted = 0, mask = 0] = value.split('/').map(Number);
        return (mark & mask) === wanted;
      }
      case '--dst-type':
        return value === 'UNICAST' ? packet.forwarded === true : packet.forwarded !== true;
      case '--src-type':
        return packet.input === '';
      case '--match-set':
        return inSet(value, rest.shift() ?? '');
      default:
        throw new Error(`unknown option ${option}`);
    }
  };
  const inSet = (name: string, direction: string): boolean => {
    const set = sets.get(name);
    if (!set) throw new Error(`no set ${name}`);
    const [address, port] = direction.startsWith('src')
      ? [packet.source, packet.sourcePort]
      : [packet.destination, packet.destinationPort];
    if (set.type === 'hash:ip,port') return set.members.has(`${address},${portNames[packet.protocol]}:${port}`);
    return [...set.members].some((member) => inNet(member, address));
  };
  const end = enter(entry);
  return { end, mark, told, ...(decided && { decided }) };
}

function sameDevice(pattern: string, device: string): boolean {
  return pattern.endsWith('+') ? device.startsWith(pattern.slice(0, -1)) : device === pattern;
}

function inPorts(list: string, port: number | undefined): boolean {
  if (list.split(/[,:]/).length > 15) throw new Error(`multiport takes 15 ports: ${list}`);
  return list.split(',').some((range) => {
    const [first = 0, last = first] = range.split(':').map(Number);
    return port !== undefined && first <= port && port <= last;
  });
}

function inNet(net: string, address: string): boolean {
  const family = net.includes(':') ? 'ipv6' : 'ipv4';
  if (address.includes(':') !== (family === 'ipv6')) throw new Error(`${net} in the rules of the other family`);
  const [base = '', length = ''] = net.split('/');
  const list = new BlockList();
  list.addSubnet(base, Number(length), family);
  return list.check(address, family);
}
