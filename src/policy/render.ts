import { InputError } from '../base/errors.ts';
import type { DesiredSet, DesiredTable, RuleText } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import type { EarlyStage, EndpointPolicy, IpSet, NodePolicy, PolicyRules, SetId } from './ir.ts';
import { DispatchTree, type Leaf } from './render/dispatch.ts';
import { endpointChain, endpointLeaf } from './render/endpoint.ts';
import { defaultFailsafe } from './render/failsafe.ts';
import { type HostOptions, type HostRules, hostRules } from './render/host.ts';
import { type EarlyTables, earlyStages, earlyTables } from './render/host-early.ts';
import { acceptMark, chainName, chains, endpointChainName, passMark, prefixes, setName } from './render/names.ts';
import { familyMembers, type Rendered, type RuleOptions, renderRules } from './render/rule.ts';
import { membersOf, type Union } from './render/skip.ts';
import { stagedChain } from './render/staged.ts';
import { noVerdictLogs } from './render/verdict.ts';

export interface RenderOptions extends HostOptions {
  /** What becomes of packets from a pod to its own host that the pod's egress policy allows. */
  readonly endpointToHost: 'DROP' | 'RETURN' | 'ACCEPT';
  /** Begins the kernel's log line of a Log rule. */
  readonly logPrefix: string;
}

/** Calico's defaults (FelixConfiguration). */
export const defaultRenderOptions: RenderOptions = {
  interfacePrefix: 'cali',
  endpointToHost: 'DROP',
  logPrefix: 'calico-packet',
  vxlanPort: 4789,
  allowVxlanFromWorkloads: false,
  allowIpipFromWorkloads: false,
  dropInvalid: true,
  dropMidstream: false,
  verdictLogs: noVerdictLogs,
  failsafeInbound: defaultFailsafe.inbound,
  failsafeOutbound: defaultFailsafe.outbound,
};

export interface Filter {
  readonly table: DesiredTable;
  /** What comes before the filter table, for host endpoints alone. */
  readonly early: EarlyTables;
  /** By kernel name: every set that a rule refers to, and no other. */
  readonly sets: ReadonlyMap<string, DesiredSet>;
}

/** The whole filter table of one family, computed afresh. */
export function renderFilter(
  policy: NodePolicy,
  family: Family,
  options: RenderOptions = defaultRenderOptions,
): Filter {
  return new FilterRenderer(options).render(policy, family);
}

/**
 * Renders one state after another and gives parts that did not change as the same objects: the result for the same
 * `NodePolicy`, the rules of every chain, every set.
 */
export class FilterRenderer {
  readonly #families = { 4: new FamilyCache(), 6: new FamilyCache() };

  /** @throws InputError for an option that the kernel would misread */
  constructor(private readonly options: RenderOptions = defaultRenderOptions) {
    const { interfacePrefix, logPrefix } = options;
    if (!/^[a-zA-Z0-9_.-]{1,14}$/.test(interfacePrefix))
      throw new InputError('interfacePrefix', interfacePrefix, 'the beginning of a device name');
    if (!/^[\w .-]{0,27}$/.test(logPrefix))
      throw new InputError('logPrefix', logPrefix, 'at most 27 letters, digits and . _ -');
  }

  render(policy: NodePolicy, family: Family): Filter {
    const cache = this.#families[family];
    const known = cache.results.get(policy);
    if (known) return known;
    const result = this.#render(policy, family, cache);
    cache.results.set(policy, result);
    return result;
  }

  #render(policy: NodePolicy, family: Family, cache: FamilyCache): Filter {
    const { last } = cache;
    // A label that changes the members of a set changes no rule.
    if (last && sameRules(last.policy, policy)) {
      const sets = cache.sets(last.references, policy, family);
      const filter = { ...last.filter, sets };
      cache.last = { ...last, policy, filter };
      return filter;
    }
    const references: Reference[] = [];
    const rendered = this.#renderRules(policy, family, cache, references);
    const filter = { ...rendered, sets: cache.sets(references, policy, family) };
    cache.last = { policy, filter, references };
    return filter;
  }

  /** @param references the sets that rules refer to are added to it */
  #renderRules(policy: NodePolicy, family: Family, cache: FamilyCache, references: Reference[]): Omit<Filter, 'sets'> {
    const hosts = hostRules(policy, family, this.options, earlyStages(policy));
    const all = new Map<string, readonly RuleText[]>([
      ...this.#fixed(family, hosts),
      ...this.#endpoints(policy, cache),
      ...hosts.chains,
    ]);
    /** The chains of one kind, whose sets are noted. */
    const write = (kind: 'policy' | 'profile' | 'staged', list: readonly PolicyRules[]) =>
      (['ingress', 'egress'] as const).flatMap((direction) =>
        list.map((rules) => {
          const chain = chainName(prefixes[direction][kind], rules.name);
          const peers = direction === 'ingress' ? 'source' : 'destination';
          const rendered = cache.rendered(rules, direction, family, { ...this.options, chain, peers });
          references.push(...rendered.nets, ...rendered.sets, ...(rendered.union ? [rendered.union] : []));
          return [chain, rendered.rules] as const;
        }),
      );
    const policies = Map.groupBy(policy.policies.values(), ({ stage }) => stage ?? 'normal');
    const writeAll = (stage: EarlyStage | 'normal') => {
      const [staged, enforced] = partition(policies.get(stage) ?? [], (rules) => rules.staged === true);
      return [...write('staged', staged), ...write('policy', enforced)];
    };
    for (const [name, rules] of writeAll('normal')) all.set(name, rules);
    for (const [name, rules] of write('profile', [...policy.profiles.values()])) all.set(name, rules);
    const early = earlyTables(policy, family, this.options, writeAll);
    return { table: { chains: cache.kept(all), insertions, appendices }, early };
  }

  #fixed(family: Family, hosts: HostRules): [string, readonly RuleText[]][] {
    const pods = `${this.options.interfacePrefix}+`;
    return [
      [
        chains.forward,
        [
          hosts.clearForward,
          ...hosts.forwardFrom,
          `-i ${pods} -j ${chains.fromDispatch}`,
          `-o ${pods} -j ${chains.toDispatch}`,
          ...hosts.forwardTo,
        ],
      ],
      [chains.input, [`-i ${pods} -g ${chains.workloadToHost}`, ...hosts.input]],
      // The node itself, and so the kubelet's probes, reaches its own pods whatever their policy.
      [chains.output, [`-o ${pods} -j RETURN`, ...hosts.output]],
      [
        chains.workloadToHost,
        [
          ...(family === 6
            ? neighbourTypes.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`)
            : []),
          `-j ${chains.fromDispatch}`,
          `-j ${this.options.endpointToHost}`,
        ],
      ],
      [chains.accept, [`-j MARK --set-xmark ${acceptMark}`]],
      [chains.pass, [`-j MARK --set-xmark ${passMark}`]],
    ];
  }

  /** Dispatch and endpoint chains. An interface that two endpoints claim is known to neither, and so closed. */
  #endpoints(policy: NodePolicy, cache: FamilyCache): [string, readonly RuleText[]][] {
    const pods = sortedPods(policy, this.options.interfacePrefix);
    return (['egress', 'ingress'] as const).flatMap((direction): [string, readonly RuleText[]][] => {
      const chains = new Map<string, readonly RuleText[]>();
      for (const endpoint of pods) {
        const chain = endpointChainName(endpoint, direction);
        if (!chains.has(chain)) chains.set(chain, cache.endpoint(chain, endpoint, direction, policy, this.options));
      }
      const leaves = pods.map((endpoint) => cache.leaf(endpoint, direction));
      return [...cache.dispatch[direction].render(leaves), ...chains].map(([name, rules]) => [name, rules]);
    });
  }
}

/** Pods whose device is ours and nobody else's, by its name. */
function sortedPods(policy: NodePolicy, interfacePrefix: string): EndpointPolicy[] {
  const pods: EndpointPolicy[] = [];
  for (const endpoint of policy.endpoints.values())
    if (!endpoint.host && endpoint.interfaceName.startsWith(interfacePrefix)) pods.push(endpoint);
  pods.sort((a, b) => (a.interfaceName < b.interfaceName ? -1 : a.interfaceName > b.interfaceName ? 1 : 0));
  return pods.filter(
    ({ interfaceName }, at) =>
      pods[at - 1]?.interfaceName !== interfaceName && pods[at + 1]?.interfaceName !== interfaceName,
  );
}

function partition<T>(list: readonly T[], wanted: (item: T) => boolean): [T[], T[]] {
  return [list.filter(wanted), list.filter((item) => !wanted(item))];
}

const insertions = new Map([
  ['FORWARD', [`-j ${chains.forward}`]],
  ['INPUT', [`-j ${chains.input}`]],
  ['OUTPUT', [`-j ${chains.output}`]],
]);
const appendices = new Map([['FORWARD', [`-m mark --mark ${acceptMark} -j ACCEPT`]]]);

/**
 * ICMPv6 that the host answers as the pod's router whatever the policy: multicast listener queries, reports and done
 * (RFC 2710), router solicitation, neighbour solicitation and advertisement (RFC 4861).
 */
const neighbourTypes = [130, 131, 132, 133, 135, 136];

/** A set that a rule names: one of literal nets, whole; a set of the policy and its type; or a union of such. */
type Reference = DesiredSet | Union | readonly [SetId, DesiredSet['type']];

/** The last state and what became of it. */
interface Last {
  readonly policy: NodePolicy;
  readonly filter: Filter;
  readonly references: readonly Reference[];
}

/** Whether both come to the same rules: everything but the members of sets is the same objects. */
function sameRules(a: NodePolicy, b: NodePolicy): boolean {
  return (
    sameEntries(a.endpoints, b.endpoints) && sameEntries(a.policies, b.policies) && sameEntries(a.profiles, b.profiles)
  );
}

function sameEntries<V>(a: ReadonlyMap<string, V>, b: ReadonlyMap<string, V>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}

/** What was rendered before in one family. */
class FamilyCache {
  last: Last | undefined;
  readonly results = new WeakMap<NodePolicy, Filter>();
  readonly #rendered = { ingress: new WeakMap<PolicyRules, Rendered>(), egress: new WeakMap<PolicyRules, Rendered>() };
  readonly #sets = new WeakMap<IpSet, DesiredSet>();
  readonly #unions = new WeakMap<Union, { readonly parts: readonly DesiredSet[]; readonly set: DesiredSet }>();
  readonly dispatch = {
    ingress: new DispatchTree(chains.toDispatch, '-o'),
    egress: new DispatchTree(chains.fromDispatch, '-i'),
  };
  readonly #leaves = { ingress: new WeakMap<EndpointPolicy, Leaf>(), egress: new WeakMap<EndpointPolicy, Leaf>() };
  /** Chains of endpoints for which all that they name was there. */
  readonly #complete = new Map<string, readonly RuleText[]>();
  #chains: ReadonlyMap<string, readonly RuleText[]> = new Map();

  leaf(endpoint: EndpointPolicy, direction: 'ingress' | 'egress'): Leaf {
    const known = this.#leaves[direction].get(endpoint);
    if (known) return known;
    const leaf = endpointLeaf(endpoint, direction);
    this.#leaves[direction].set(endpoint, leaf);
    return leaf;
  }

  /** The chain's name tells all that it depends on, as long as all that it names is there. */
  endpoint(
    chain: string,
    endpoint: EndpointPolicy,
    direction: 'ingress' | 'egress',
    policy: NodePolicy,
    options: RenderOptions,
  ): readonly RuleText[] {
    const complete =
      endpoint.profiles.every((name) => policy.profiles.has(name)) &&
      endpoint.tiers.every((tier) => tier[direction].every((name) => policy.policies.has(name)));
    if (!complete) return endpointChain(chain, endpoint, direction, policy, options);
    const rules = this.#complete.get(chain) ?? endpointChain(chain, endpoint, direction, policy, options);
    this.#complete.set(chain, rules);
    return rules;
  }

  rendered(rules: PolicyRules, direction: 'ingress' | 'egress', family: Family, options: RuleOptions): Rendered {
    const known = this.#rendered[direction].get(rules);
    if (known) return known;
    const rendered = rules.staged
      ? stagedChain(rules, direction, family)
      : renderRules(rules[direction], family, options);
    this.#rendered[direction].set(rules, rendered);
    return rendered;
  }

  /** By kernel name. */
  sets(references: readonly Reference[], policy: NodePolicy, family: Family): Map<string, DesiredSet> {
    const sets = new Map<string, DesiredSet>();
    for (const reference of references) {
      const set = this.#resolved(reference, policy, family);
      sets.set(set.name, set);
    }
    return sets;
  }

  #resolved(reference: Reference, policy: NodePolicy, family: Family): DesiredSet {
    const setOf = (id: SetId, type: DesiredSet['type'] = 'hash:net') => this.set(policy.sets.get(id), id, type, family);
    if (!('name' in reference)) return setOf(...reference);
    if ('members' in reference) return reference;
    const parts = reference.sets.map((id) => setOf(id));
    const known = this.#unions.get(reference);
    if (known?.parts.every((part, at) => part === parts[at])) return known.set;
    const set: DesiredSet = { name: reference.name, type: 'hash:net', family, members: membersOf(reference, setOf) };
    this.#unions.set(reference, { parts, set });
    return set;
  }

  /** A set that the policy does not hold is empty: a rule must never refer to what does not exist. */
  set(set: IpSet | undefined, id: SetId, type: DesiredSet['type'], family: Family): DesiredSet {
    const known = set && this.#sets.get(set);
    if (known) return known;
    const members = familyMembers(set?.members ?? new Set(), family);
    const desired: DesiredSet = { name: setName(id, family), type, family, members };
    if (set) this.#sets.set(set, desired);
    return desired;
  }

  /** The same chains, with the arrays of the last time where their text is the same. */
  kept(fresh: ReadonlyMap<string, readonly RuleText[]>): ReadonlyMap<string, readonly RuleText[]> {
    const last = this.#chains;
    for (const name of this.#complete.keys()) if (!fresh.has(name)) this.#complete.delete(name);
    this.#chains = new Map(
      [...fresh].map(([name, rules]) => {
        const before = last.get(name);
        const same =
          before === rules || (before?.length === rules.length && before.every((rule, i) => rule === rules[i]));
        return [name, before && same ? before : rules];
      }),
    );
    return this.#chains;
  }
}
