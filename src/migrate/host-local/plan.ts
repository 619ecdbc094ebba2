import { handleId } from '../../cni/names.ts';
import { addressAt, affinityOf, attributeOf } from '../../ipam/block.ts';
import {
  bits,
  type Cidr,
  cidrOf,
  cidrParts,
  contains,
  familyOf,
  formatIp,
  type Ip,
  ipBytes,
  parseCidr,
} from '../../model/address.ts';
import { endpointName, hostDeviceName } from '../../model/endpoint-name.ts';
import { parseSelector } from '../../model/selector.ts';
import { type Attachment, attachmentKey, type Facts, type Pair, type Reservation } from './facts.ts';

/*
 * What it takes for a node to go over: a pool of its podCIDR, which flannel's routes go on leading to, its addresses in
 * IPAM, and its pods' devices. Pure: facts in, plan out.
 */

export interface PlannedPool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly blockSize: number;
  readonly nodeSelector: string;
  readonly exists: boolean;
}

export interface PlannedBlock {
  readonly cidr: Cidr;
  /** The node owns it already. */
  readonly owned: boolean;
}

/** An address that is taken over, and its holder in IPAM. */
export interface PlannedAddress {
  readonly address: Ip;
  readonly block: Cidr;
  readonly handle: string;
  readonly namespace?: string;
  readonly pod?: string;
  /** Why it is held where no pod is known. */
  readonly reason?: string;
}

export interface PlannedPod {
  readonly namespace: string;
  readonly pod: string;
  readonly containerId: string;
  readonly ifName: string;
  readonly netns: string;
  readonly addresses: readonly Ip[];
  /** Name of the WorkloadEndpoint. */
  readonly endpoint: string;
  /** What the host's end of the pair is called then. */
  readonly device: string;
  /** As it is now. */
  readonly pair: Pair;
}

/** A pod that runs on with its address held, but loses the network until it is started anew. */
export interface Restart {
  readonly name: string;
  readonly addresses: readonly Ip[];
  readonly reason: string;
}

export interface Plan {
  readonly node: string;
  /** Name of our network configuration, with which handles begin. */
  readonly network: string;
  readonly pools: readonly PlannedPool[];
  readonly blocks: readonly PlannedBlock[];
  readonly addresses: readonly PlannedAddress[];
  readonly pods: readonly PlannedPod[];
  readonly restarts: readonly Restart[];
  /** What stands in the way of `apply`. */
  readonly obstacles: readonly string[];
  /** What should be known, but hinders nothing. */
  readonly notes: readonly string[];
}

const hostnameLabel = 'kubernetes.io/hostname';
const pluginTypes = ['margay', 'calico'];

/** Whose reservations of one container belong together. */
interface Container {
  readonly containerId: string;
  readonly ifName: string;
  readonly addresses: readonly Ip[];
  readonly attachment?: Attachment;
}

export function planOf(facts: Facts): Plan {
  const { node, podCidrs } = facts;
  const network = facts.configuration?.network ?? '';
  const containers = containersOf(facts);
  const judged = containers.map((container) => judge(container, facts));
  const addresses = [
    ...containers.flatMap((container) => heldBy(container, network, podCidrs)),
    ...hostAddressesIn(facts),
  ];
  const cidrs = [...new Set(addresses.map(({ block }) => block))].sort();
  const blocks = cidrs.map((cidr) => ({ cidr, owned: ownerOf(facts, cidr) === affinityOf(node) }));
  return {
    node,
    network,
    pools: podCidrs.map((cidr) => poolFor(cidr, facts)),
    blocks,
    addresses,
    pods: judged.flatMap((one) => ('pair' in one ? [one] : [])),
    restarts: judged.flatMap((one) => ('reason' in one ? [one] : [])),
    obstacles: [...obstaclesOf(facts), ...addressObstacles(addresses, facts)],
    notes: notesOf(facts),
  };
}

/** Length of the blocks of a podCIDR: the usual one, unless the podCIDR itself is smaller. */
function blockLength(cidr: Cidr): number {
  const { length, family } = cidrParts(cidr);
  return Math.max(length, family === 4 ? 26 : 122);
}

function blockOf(address: Ip, podCidrs: readonly Cidr[]): Cidr | undefined {
  const outer = podCidrs.find((cidr) => contains(cidr, address));
  return outer && cidrOf(ipBytes(address), blockLength(outer));
}

/** Reservations within the node's podCIDRs by container, with what the runtime knows of each. */
function containersOf({ reservations, attachments, podCidrs }: Facts): Container[] {
  const groups = new Map<string, Reservation[]>();
  for (const each of reservations) {
    if (blockOf(each.address, podCidrs) === undefined) continue;
    const key = attachmentKey({ ...each, ifName: each.ifName ?? 'eth0' });
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const { containerId, ifName = 'eth0' } = first;
    const attachment = attachments.find((one) => one.containerId === containerId && one.ifName === ifName);
    const addresses = [...new Set(group.map(({ address }) => address))].sort((a, b) => familyOf(a) - familyOf(b));
    return [{ containerId, ifName, addresses, ...(attachment && { attachment }) }];
  });
}

/** A pod that can be taken over as it runs, or why it cannot. */
function judge(container: Container, facts: Facts): PlannedPod | Restart {
  const { containerId, ifName, addresses, attachment } = container;
  const { namespace, pod, netns } = attachment ?? {};
  const name = namespace && pod ? `${namespace}/${pod}` : `container ${containerId}`;
  const restart = (reason: string): Restart => ({ name, addresses, reason });
  if (attachment === undefined || !namespace || !pod)
    return restart('the runtime remembers no pod for it; if none runs, its address is free to be released');
  if (ifName !== 'eth0') return restart(`its device is ${ifName}, and the pod network's is eth0`);
  if (!netns) return restart("the runtime does not remember the pod's network namespace");
  const found = facts.pairs.get(attachmentKey(container));
  if (found === undefined || 'problem' in found)
    return restart(found?.problem ?? "the pod's network namespace was not looked into");
  const present = new Set(found.podAddresses.map((text) => text.split('/')[0]));
  const missing = addresses.find((address) => !present.has(address));
  if (missing !== undefined) return restart(`${missing} is not on the pod's ${ifName}`);
  const more = found.podAddresses.find((text) => !addresses.some((address) => text.startsWith(`${address}/`)));
  if (more !== undefined && !isLinkLocal(more))
    return restart(`the pod has ${more} too, which host-local did not give`);
  return {
    ...{ namespace, pod, containerId, ifName, netns, addresses, pair: found },
    endpoint: endpointName(facts.node, pod, ifName),
    device: hostDeviceName(facts.interfacePrefix, namespace, pod),
  };
}

function isLinkLocal(cidr: string): boolean {
  return /^fe[89ab].:/.test(cidr);
}

function heldBy({ containerId, addresses, attachment }: Container, network: string, podCidrs: readonly Cidr[]) {
  const { namespace, pod } = attachment ?? {};
  return addresses.flatMap((address): PlannedAddress[] => {
    const block = blockOf(address, podCidrs);
    if (block === undefined) return [];
    const known = namespace && pod ? { namespace, pod } : { reason: 'host-local holds it for a container without pod' };
    return [{ address, block, handle: handleId(network, containerId), ...known }];
  });
}

/** The bridge's and flannel's own addresses, and the bridge's broadcast address, which the kernel keeps to itself. */
function hostAddressesIn({ node, hostAddresses, podCidrs }: Facts): PlannedAddress[] {
  const found = hostAddresses.flatMap(({ device, address, cidr }): PlannedAddress[] => {
    const last = broadcastOf(cidr);
    return [address, ...(last === undefined || last === address ? [] : [last])].flatMap((each) => {
      const block = blockOf(each, podCidrs);
      const reason = each === address ? `${device} of the node has it` : `broadcast address of ${device}`;
      return block === undefined ? [] : [{ address: each, block, handle: `host-local.${node}`, reason }];
    });
  });
  return [...new Map(found.map((each) => [each.address, each])).values()];
}

/** The last address of an IPv4 subnet of more than two. */
function broadcastOf(cidr: string): Ip | undefined {
  const subnet = parseCidr(cidr);
  const { address, length, family } = cidrParts(subnet);
  if (family === 6 || length > bits(4) - 2) return undefined;
  const octets = Uint8Array.from(ipBytes(address));
  for (let bit = length; bit < 32; bit++) octets[bit >> 3] = (octets[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return formatIp(octets);
}

function poolFor(cidr: Cidr, { node, labels, pools }: Facts): PlannedPool {
  const there = pools.find(({ spec }) => parseCidr(spec.cidr) === cidr);
  const six = familyOf(cidr) === 6;
  return {
    name: there?.metadata.name ?? `podcidr${six ? '6' : ''}-${node}`,
    cidr,
    blockSize: blockLength(cidr),
    nodeSelector: `${hostnameLabel} == ${JSON.stringify(labels?.[hostnameLabel] ?? node)}`,
    exists: there !== undefined,
  };
}

function obstaclesOf({ node, podCidrs, labels, pools, configuration, faults }: Facts): string[] {
  const found: string[] = [...faults];
  if (labels === undefined)
    found.push(`there is no Node ${node}: start the agent on it first, or name the node by --node`);
  else if (labels[hostnameLabel] === undefined)
    found.push(`Node ${node} has no label ${hostnameLabel}, by which its pool is to be for it alone`);
  if (podCidrs.length === 0) found.push('no podCIDR is known: name it by --pod-cidr');
  if (configuration === undefined)
    found.push(
      "there is no network configuration: install Margay's, so that no other plugin gives addresses meanwhile",
    );
  else if (!configuration.types.some((type) => pluginTypes.includes(type)))
    found.push(
      `${configuration.file} comes first (${configuration.types.join(', ')}): install Margay's configuration under an ` +
        'earlier name, so that host-local gives no more addresses',
    );
  else if (configuration.hostLocal)
    found.push(
      `${configuration.file} has ipam host-local: install it anew without USE_POD_CIDR, so that pools give addresses`,
    );
  for (const cidr of podCidrs) found.push(...pools.flatMap((pool) => poolObstacle(cidr, pool, labels)));
  return found;
}

function poolObstacle(cidr: Cidr, { metadata, spec }: Facts['pools'][number], labels: Facts['labels']): string[] {
  const pool = parseCidr(spec.cidr);
  if (pool !== cidr && !contains(pool, cidr) && !contains(cidr, pool)) return [];
  const title = `IPPool ${metadata.name} (${pool})`;
  if (pool !== cidr)
    return [`${title} overlaps the podCIDR ${cidr}, out of which other nodes may still give addresses`];
  const size = spec.blockSize ?? (familyOf(pool) === 4 ? 26 : 122);
  if (size !== blockLength(cidr)) return [`${title} has blocks of /${size} and should have /${blockLength(cidr)}`];
  if (spec.disabled) return [`${title} is disabled`];
  const field = `IPPool(${metadata.name}).spec.nodeSelector`;
  if (labels && !parseSelector(spec.nodeSelector, field).matches(labels))
    return [`${title} does not select this node (${spec.nodeSelector})`];
  return [];
}

function ownerOf({ blocks }: Facts, cidr: Cidr): string | null | undefined {
  return blocks.find((block) => block.cidr === cidr)?.affinity;
}

/** Addresses and blocks that somebody else has. */
function addressObstacles(addresses: readonly PlannedAddress[], facts: Facts): string[] {
  const holders = new Map<Ip, string>();
  for (const block of facts.blocks)
    for (const [ordinal] of block.allocations.entries()) {
      const attribute = attributeOf(block, ordinal);
      if (attribute) holders.set(addressAt(block, ordinal), attribute.handle_id ?? 'nobody named');
    }
  const taken = addresses.flatMap(({ address, handle }) => {
    const holder = holders.get(address);
    return holder === undefined || holder === handle
      ? []
      : [`${address} is held by ${holder} in IPAM, and by a container here`];
  });
  const foreign = [...new Set(addresses.map(({ block }) => block))].flatMap((cidr) => {
    const owner = ownerOf(facts, cidr);
    return owner === undefined || owner === affinityOf(facts.node)
      ? []
      : [`block ${cidr} belongs to ${owner ?? 'nobody'}`];
  });
  const twice = addresses.filter(({ address }, at) => addresses.findIndex((each) => each.address === address) !== at);
  return [...taken, ...foreign, ...twice.map(({ address }) => `two containers hold ${address}`)];
}

function notesOf({ pools, podCidrs, reservations }: Facts): string[] {
  const others = pools.filter(({ spec }) => !spec.disabled && !podCidrs.includes(parseCidr(spec.cidr)));
  const outside = reservations.filter(({ address }) => blockOf(address, podCidrs) === undefined);
  const networks = [...new Set(outside.map(({ network }) => network))];
  return [
    ...others
      .filter(({ spec }) => spec.nodeSelector === 'all()' || spec.nodeSelector === '')
      .map(
        ({ metadata, spec }) =>
          `new pods may get addresses of IPPool ${metadata.name} (${spec.cidr}), to which nodes that have not moved know no route`,
      ),
    ...networks.map((name) => `network ${name} holds addresses outside the podCIDR, which stay as they are`),
  ];
}
