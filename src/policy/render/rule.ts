import type { DesiredSet, RuleText } from '../../kernel/types.ts';
import { bits, type Cidr, cidrParts, type Family, familyOf } from '../../model/address.ts';
import { hashId } from '../../model/selector.ts';
import type { Match, PortRange, Rule, SetId } from '../ir.ts';
import { chains, setName } from './names.ts';
import { type PeerSide, skipOf, type Union } from './skip.ts';
import { type VerdictLogs, verdictTarget } from './verdict.ts';

/** Rules of one chain, and the sets that they refer to. */
export interface Rendered {
  readonly rules: readonly RuleText[];
  readonly sets: ReadonlyMap<SetId, DesiredSet['type']>;
  /** Sets made of a rule's own prefixes. */
  readonly nets: readonly DesiredSet[];
  /** By which strangers pass by many rules. */
  readonly union?: Union;
}

/** multiport takes this many ports, a range counting as two. */
const maxPorts = 15;

const protocolNames = new Map([
  [6, 'tcp'],
  [17, 'udp'],
  [132, 'sctp'],
  [136, 'udplite'],
]);

/** What is the same for every rule of a chain. */
export interface RuleOptions {
  readonly chain: string;
  readonly logPrefix: string;
  readonly verdictLogs: VerdictLogs;
  /** Of every rule, instead of what its action says. */
  readonly target?: RuleText;
  /** Where the peers are; strangers then pass by many rules at once. */
  readonly peers?: PeerSide;
}

/** Rules as iptables text for one family; a rule that cannot match there leaves nothing. */
export function renderRules(rules: readonly Rule[], family: Family, options: RuleOptions): Rendered {
  const writer = new MatchWriter(family);
  const lines = (rule: Rule): RuleText[] => {
    const { action, match, index } = rule;
    const told =
      action === 'allow' || action === 'deny'
        ? verdictTarget(options.verdictLogs, {
            verdict: action,
            chain: options.chain,
            place: { by: 'rule', rule: index },
          })
        : [];
    const targets = options.target ? [options.target] : [...told, targetOf(action, options.logPrefix)];
    return writer
      .alternatives(match)
      .flatMap((conditions) => targets.map((target) => [...conditions, target].join(' ')));
  };
  const written = rules.map((rule) => ({ rule, text: lines(rule) })).filter(({ text }) => text.length > 0);
  const possible = written.map(({ rule }) => rule);
  const skip = options.peers && skipOf(possible, family, options.peers);
  const text = written.map((one) => one.text);
  const all = skip ? text.toSpliced(skip.after, 0, [skip.rule]) : text;
  return { rules: all.flat(), sets: writer.sets, nets: [...writer.nets.values()], ...(skip && { union: skip.union }) };
}

function targetOf(action: Rule['action'], logPrefix: string): string {
  switch (action) {
    case 'allow':
      return `-g ${chains.accept}`;
    case 'pass':
      return `-g ${chains.pass}`;
    case 'deny':
      return '-j DROP';
    case 'log':
      return `-j LOG --log-prefix "${logPrefix}: " --log-level 5`;
  }
}

class MatchWriter {
  readonly sets = new Map<SetId, DesiredSet['type']>();
  readonly nets = new Map<string, DesiredSet>();

  constructor(private readonly family: Family) {}

  /** Lists of conditions of which one must hold whole; none when the match cannot hold in this family. */
  alternatives(match: Match): string[][] {
    if (match.family !== undefined && match.family !== this.family) return [];
    if (match.protocol !== undefined && match.protocol === match.notProtocol) return [];
    const source = this.#addresses(match.sourceNets, match.notSourceNets, '-s', 'src');
    const destination = this.#addresses(match.destinationNets, match.notDestinationNets, '-d', 'dst');
    if (!source || !destination) return [];
    const common = [
      ...this.#protocol(match),
      ...source,
      ...destination,
      ...this.#memberships(match.sourceSets, 'hash:net', 'src'),
      ...this.#memberships(match.notSourceSets, 'hash:net', 'src', '! '),
      ...this.#memberships(match.destinationSets, 'hash:net', 'dst'),
      ...this.#memberships(match.notDestinationSets, 'hash:net', 'dst', '! '),
      ...multiport('! --sports', match.notSourcePorts),
      ...this.#memberships(match.notSourcePortSets, 'hash:ip,port', 'src,src', '! '),
      ...multiport('! --dports', match.notDestinationPorts),
      ...this.#memberships(match.notDestinationPortSets, 'hash:ip,port', 'dst,dst', '! '),
    ];
    const sourcePorts = this.#ports('--sports', match.sourcePorts, match.sourcePortSets, 'src,src');
    const destinationPorts = this.#ports('--dports', match.destinationPorts, match.destinationPortSets, 'dst,dst');
    return sourcePorts.flatMap((from) => destinationPorts.map((to) => [...common, ...from, ...to]));
  }

  #protocol({ protocol, notProtocol, icmp, notIcmp }: Match): string[] {
    const conditions: string[] = [];
    if (protocol !== undefined) conditions.push(`-p ${protocolNames.get(protocol) ?? protocol}`);
    else if (notProtocol !== undefined) conditions.push(`! -p ${protocolNames.get(notProtocol) ?? notProtocol}`);
    const option = this.family === 4 ? '-m icmp %--icmp-type' : '-m icmp6 %--icmpv6-type';
    const type = (wanted: { type: number; code?: number }) =>
      wanted.code === undefined ? String(wanted.type) : `${wanted.type}/${wanted.code}`;
    if (icmp) conditions.push(`${option.replace('%', '')} ${type(icmp)}`);
    if (notIcmp) conditions.push(`${option.replace('%', '! ')} ${type(notIcmp)}`);
    return conditions;
  }

  /** Undefined when no address of the family can meet the condition. */
  #addresses(
    nets: readonly string[] | undefined,
    notNets: readonly string[] | undefined,
    flag: '-s' | '-d',
    direction: string,
  ): string[] | undefined {
    const wanted = nets && this.#ofFamily(nets);
    const refused = this.#ofFamily(notNets ?? []);
    if (wanted?.length === 0 || refused.some(isEverything)) return undefined;
    const positive = wanted === undefined || wanted.some(isEverything) ? [] : wanted;
    const conditions: string[] = [];
    if (positive.length === 1) conditions.push(`${flag} ${positive[0]}`);
    if (positive.length > 1) conditions.push(this.#netSet(positive, direction, ''));
    if (refused.length === 1 && positive.length !== 1) conditions.push(`! ${flag} ${refused[0]}`);
    else if (refused.length > 0) conditions.push(this.#netSet(refused, direction, '! '));
    return conditions;
  }

  #ofFamily(nets: readonly string[]): Cidr[] {
    return (nets as readonly Cidr[]).filter((net) => familyOf(net) === this.family);
  }

  #netSet(nets: readonly Cidr[], direction: string, not: '' | '! '): string {
    const members = new Set(nets.toSorted());
    const name = setName(hashId('w:', [...members].join(',')), this.family);
    if (!this.nets.has(name)) this.nets.set(name, { name, type: 'hash:net', family: this.family, members });
    return `-m set ${not}--match-set ${name} ${direction}`;
  }

  #memberships(
    ids: readonly SetId[] | undefined,
    type: DesiredSet['type'],
    direction: string,
    not: '' | '! ' = '',
  ): string[] {
    return (ids ?? []).map((id) => {
      this.sets.set(id, type);
      return `-m set ${not}--match-set ${setName(id, this.family)} ${direction}`;
    });
  }

  /** Alternatives: as many rules as multiport needs, and one a named port. */
  #ports(
    option: string,
    ranges: readonly PortRange[] | undefined,
    ids: readonly SetId[] | undefined,
    direction: string,
  ): string[][] {
    if (!ranges && !ids) return [[]];
    return [...multiport(option, ranges), ...this.#memberships(ids, 'hash:ip,port', direction)].map((text) => [text]);
  }
}

function isEverything(net: Cidr): boolean {
  return cidrParts(net).length === 0;
}

function multiport(option: string, ranges: readonly PortRange[] = []): string[] {
  const lists: string[] = [];
  let current: string[] = [];
  let slots = 0;
  for (const { first, last } of ranges) {
    const cost = first === last ? 1 : 2;
    if (slots + cost > maxPorts) {
      lists.push(current.join(','));
      current = [];
      slots = 0;
    }
    current.push(first === last ? String(first) : `${first}:${last}`);
    slots += cost;
  }
  if (current.length > 0) lists.push(current.join(','));
  return lists.map((list) => `-m multiport ${option} ${list}`);
}

/** Members of one family as the kernel takes them: hash:net cannot hold /0, so that it becomes two halves. */
export function familyMembers(members: ReadonlySet<string>, family: Family): ReadonlySet<string> {
  const own = new Set<string>();
  for (const member of members) {
    const comma = member.indexOf(',');
    const address = comma < 0 ? member : member.slice(0, comma);
    if (address.includes(':') !== (family === 6)) continue;
    if (!address.endsWith('/0')) own.add(member);
    else for (const half of halves(family)) own.add(half);
  }
  return own;
}

function halves(family: Family): readonly string[] {
  return bits(family) === 32 ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1'];
}
