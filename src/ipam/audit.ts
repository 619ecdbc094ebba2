import { keyText } from '../datastore/store.ts';
import { type Cidr, contains, type Ip, parseCidr } from '../model/address.ts';
import type { Node } from '../model/kinds.ts';
import { Cover, type Held, handleName, type Index, indexOf, type Lists, type User } from './audit-index.ts';
import { auditAffinities, auditHandles, releaseCommand } from './audit-owners.ts';
import { sameHandle, windowsReserved } from './block.ts';

/** What can be wrong, gravest first. */
export const problems = [
  /** An address that two use, or that one uses and another holds. */
  'doubleAllocation',
  /** An endpoint's address that IPAM holds free and may give to another. */
  'unallocated',
  /** A stored object that does not parse; what it may stand for is not judged. */
  'unreadable',
  /** An address that is held for what is gone. */
  'leak',
  /** An address whose handle does not know of it, so that its release by handle frees nothing. */
  'addressWithoutHandle',
  /** A handle that holds no address. */
  'orphanedHandle',
  'affinityWithoutBlock',
  'blockWithoutAffinity',
  /** An affinity whose claim or release broke off. */
  'unfinishedAffinity',
  /** An affinity of a node that is gone. */
  'orphanedAffinity',
] as const;

export interface Finding {
  readonly problem: (typeof problems)[number];
  /** The address, handle, block or key that it is about. */
  readonly subject: string;
  readonly node?: string;
  /** What was seen, in words. */
  readonly detail: string;
  /** A command, or in words what to do. */
  readonly repair: string;
}

export interface Audit {
  /** Addresses that are held. */
  readonly addresses: number;
  /** Of these: whose use nothing in the store can tell, for example a service's. */
  readonly unjudged: number;
  readonly findings: readonly Finding[];
}

export interface AuditOptions {
  readonly now: Date;
  /** An address younger than this is no leak yet: many write the endpoint some time after it. */
  readonly graceSeconds: number;
}

/**
 * Everything in the lists that contradicts itself, each with its repair, by problem and subject. Handles that count too
 * many addresses are no finding: a crash may leave them so, and their release mends them. What cannot be read counts as
 * there, so that nothing is called lost for want of reading it.
 */
export function audit(lists: Lists, options: AuditOptions): Audit {
  const index = indexOf(lists);
  const verdicts = index.held.map((held) => ({ held, use: useOf(held, index, lists) }));
  const gone = verdicts.flatMap(({ held, use }) => (typeof use === 'object' ? [{ held, reason: use.gone }] : []));
  const lost = new Set(gone.map(({ held }) => held));
  const findings = [
    ...doubleAllocations(index),
    ...unallocated(index, lists),
    ...unreadable(lists),
    ...gone.flatMap(({ held, reason }) => (isOlder(held, options) ? [leak(held, reason)] : [])),
    ...auditHandles(
      index.held.filter((held) => !lost.has(held)),
      lists,
      index,
    ),
    ...auditAffinities(index, lists),
  ];
  return {
    addresses: index.held.length,
    unjudged: verdicts.filter(({ use }) => use === 'unknown').length,
    findings: findings.sort(inOrder),
  };
}

/** What both audits found, as the later says it: changes that were under way during the first are over. */
export function standing(earlier: Audit, later: Audit): Audit {
  const before = new Set(earlier.findings.map(identity));
  return { ...later, findings: later.findings.filter((finding) => before.has(identity(finding))) };
}

function identity({ problem, subject, node = '' }: Finding): string {
  return JSON.stringify([problem, subject, node]);
}

function inOrder(a: Finding, b: Finding): number {
  const byProblem = problems.indexOf(a.problem) - problems.indexOf(b.problem);
  return byProblem || (identity(a) < identity(b) ? -1 : 1);
}

/** Where a node says that it uses an address, by the `type` beside it. */
const tunnelFields: Readonly<Record<string, (spec: Node['spec']) => unknown>> = {
  ipipTunnelAddress: ({ bgp }) => bgp?.ipv4IPIPTunnelAddr,
  vxlanTunnelAddress: ({ ipv4VXLANTunnelAddr }) => ipv4VXLANTunnelAddr,
  vxlanV6TunnelAddress: ({ ipv6VXLANTunnelAddr }) => ipv6VXLANTunnelAddr,
  wireguardTunnelAddress: (spec) => wireguardOf(spec)?.['interfaceIPv4Address'],
  wireguardV6TunnelAddress: (spec) => wireguardOf(spec)?.['interfaceIPv6Address'],
};

function wireguardOf({ wireguard }: Node['spec']): Record<string, unknown> | undefined {
  return typeof wireguard === 'object' && wireguard !== null ? (wireguard as Record<string, unknown>) : undefined;
}

type Use = 'live' | 'unknown' | { readonly gone: string };

/** Whether something uses an address that is held. */
function useOf({ address, handle, attributes }: Held, index: Index, lists: Lists): Use {
  if (index.users.has(address)) return 'live';
  if (sameHandle(handle, windowsReserved)) return 'unknown';
  const { node, type = '', namespace, pod } = attributes;
  const nodesKnown = lists.nodes.invalid.length === 0;
  const field = tunnelFields[type];
  if (field && node !== undefined) {
    const found = index.nodes.get(node);
    if (found && field(found.spec) === address) return 'live';
    if (!nodesKnown) return 'unknown';
    return { gone: found ? `node ${node} does not name it as its ${type}` : `node ${node} is gone` };
  }
  // A stopped virtual machine keeps its address, and a service's is used by no endpoint.
  if ('vmi-name' in attributes || 'service' in attributes) return 'unknown';
  if (namespace && pod) {
    if (lists.endpoints.invalid.length > 0) return 'unknown';
    return { gone: `no endpoint of pod ${namespace}/${pod} has it` };
  }
  if (node === undefined || !nodesKnown || index.nodes.has(node)) return 'unknown';
  return { gone: `node ${node} is gone` };
}

/** Attributes carry Go's time text; what has none counts as old. */
function isOlder({ attributes }: Held, { now, graceSeconds }: AuditOptions): boolean {
  const [, day, time] =
    /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? \+0000 UTC/.exec(attributes['timestamp'] ?? '') ?? [];
  const at = Date.parse(`${day}T${time}Z`);
  return Number.isNaN(at) || now.getTime() - at >= graceSeconds * 1000;
}

function leak(held: Held, reason: string): Finding {
  const { node } = held.attributes;
  return {
    problem: 'leak',
    subject: held.address,
    ...(node !== undefined && { node }),
    detail: `${held.handle === undefined ? 'held' : `held by ${held.handle}`}, but ${reason}`,
    repair: releaseCommand(held),
  };
}

function doubleAllocations({ held, users }: Index): Finding[] {
  const holders = new Map<Ip, Held[]>();
  for (const each of held) holders.set(each.address, [...(holders.get(each.address) ?? []), each]);
  const findings: Finding[] = [];
  for (const address of new Set([...holders.keys(), ...users.keys()])) {
    const using = users.get(address) ?? [];
    const holding = holders.get(address) ?? [];
    // While a virtual machine moves, its old pod and its new one have the same address.
    if (holding.some(({ attributes }) => 'vmi-name' in attributes)) continue;
    const strangers = using.filter((user) => !holding.some((each) => fits(each, user)));
    const foreign = holding.length > 0 && strangers.length > 0;
    if (using.length > 1 || holding.length > 1 || foreign) findings.push(twice(address, holding, using, strangers));
  }
  return findings;
}

function twice(address: Ip, holding: readonly Held[], using: readonly User[], strangers: readonly User[]): Finding {
  const held = holding.map(({ block, handle, attributes: { namespace, pod } }) => {
    const whose = pod === undefined ? '' : ` for ${namespace}/${pod}`;
    return `held in ${block} by ${handle ?? 'no handle'}${whose}`;
  });
  const used = using.map(({ name, node }) => `used by ${name} on ${node}`);
  const wrong = strangers.length > 0 ? strangers : using.slice(1);
  const pods = wrong.filter(({ pod }) => pod !== undefined);
  const repair =
    pods.length > 0
      ? pods.map(deletePod).join('; ')
      : `remove all but one of what uses ${address}, then margayctl ipam check again`;
  return { problem: 'doubleAllocation', subject: address, detail: [...held, ...used].join(', '), repair };
}

/** Whether an address may be held for this endpoint: for its container or its pod, or for nobody in particular. */
function fits({ handle, attributes: { namespace, pod, type } }: Held, user: User): boolean {
  if (handle !== undefined && user.containerId && handleName(handle).endsWith(`.${user.containerId}`)) return true;
  if (pod !== undefined && namespace !== undefined) return pod === user.pod && namespace === user.namespace;
  return type === undefined;
}

function deletePod({ namespace, pod }: User): string {
  return `kubectl delete pod -n ${namespace} ${pod}`;
}

/** Addresses in use that are free in their block, or in no block of a pool that others have blocks of. */
function unallocated({ held, users, blocks }: Index, lists: Lists): Finding[] {
  const taken = new Set(held.map(({ address }) => address));
  const cover = new Cover(blocks.keys());
  const hidden = new Cover(lists.blocks.invalid.flatMap(({ key }) => (key.type === 'Block' ? [key.cidr] : [])));
  const pools = lists.pools.entries.map(({ value }) => parseCidr(value.spec.cidr));
  const managed = pools.filter((pool) => cover.someWithin(pool));
  return [...users].flatMap(([address, using]): Finding[] => {
    const [user] = using;
    if (user === undefined || taken.has(address) || hidden.find(address) !== undefined) return [];
    const block = cover.find(address);
    const pool = managed.find((each) => contains(each, address));
    if (block === undefined && pool === undefined) return [];
    return [free(address, user, block, pool)];
  });
}

function free(address: Ip, user: User, block: Cidr | undefined, pool: Cidr | undefined): Finding {
  return {
    problem: 'unallocated',
    subject: address,
    node: user.node,
    detail: `used by ${user.name}, but ${block === undefined ? `in no block of ${pool}` : `free in ${block}`}`,
    repair: user.pod === undefined ? `remove ${user.name} and add it again` : deletePod(user),
  };
}

function unreadable(lists: Lists): Finding[] {
  return Object.values(lists)
    .flatMap((page: Lists[keyof Lists]) => page.invalid)
    .map(({ key, error }) => ({
      problem: 'unreadable',
      subject: keyText(key),
      detail: error.message,
      repair: 'mend or delete the object in the datastore, then margayctl ipam check again',
    }));
}
