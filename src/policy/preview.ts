import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Event, type Key, keyText } from '../datastore/store.ts';
import { cidrParts, type Family, familyOf, type Ip, parseCidr } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { evaluateAtHost } from './host.ts';
import { HostFacts } from './host-facts.ts';
import type { NodePolicy } from './ir.ts';
import { type Passing, type PathEnd, passings } from './path.ts';
import { PolicyIndex } from './policy-index.ts';
import { type Asked, forwardView, portsOf, sameMembers, view } from './preview-scope.ts';
import type { Failsafe } from './render/failsafe.ts';
import { moved, onDevice, sliceNode } from './slice.ts';
import { isStaged } from './staged.ts';

/*
 * What a change of objects does to connections between pods, and nodes that have host endpoints. Only pairs with an end
 * whose policy differs are asked, on the ports that the policies of either side name, and on one that they do not.
 */

export interface Change {
  /** `namespace/pod`, or `host:node`. */
  readonly from: string;
  readonly to: string;
  readonly family: Family;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  readonly before: 'allow' | 'deny';
  readonly after: 'allow' | 'deny';
}

/** Most pairs and ports that one preview asks. */
const mostQuestions = 2_000_000;

/** The objects with those of the same key replaced, and new ones added. */
export function merged(cluster: readonly Event[], change: readonly Event[]): Event[] {
  const all = new Map<string, Event>();
  for (const event of [...cluster, ...change]) all.set(keyText(keyOf(event)), event);
  return [...all.values()];
}

/** @throws InputError when the change concerns more pairs than can be asked */
export function preview(before: readonly Event[], after: readonly Event[], log: Log): Change[] {
  const [old, next] = [stateOf(before, log), stateOf(after, log)];
  const ends = [...podsOf(after), ...nodesOf(old, next)];
  const ports = portsOf([old.policy, next.policy], failsafesThatDiffer(old.facts, next.facts));
  const setsDiffer = [...old.policy.sets].some(
    ([id, set]) => !sameMembers(set.members, next.policy.sets.get(id)?.members),
  );
  const hosts = new Map(
    [...new Set([...old.facts.nodes(), ...next.facts.nodes()])].map((node) => [node, hostsDiffer(old, next, node)]),
  );
  const touched = new Set(ends.filter((end) => differs(old, next, end, hosts)).map(({ title }) => title));
  const concerned = ({ title }: Place) => setsDiffer || touched.has(title);
  const still = ends.filter((end) => !concerned(end)).length;
  const count = ends.length * (ends.length - 1) - still * (still - 1);
  if (count * ports.length > mostQuestions)
    throw new InputError('--filename', `${count} pairs of ends on ${ports.length} ports`, 'a smaller change');
  const others = ends.filter(concerned);
  const pairs = ends.flatMap((from) =>
    (concerned(from) ? ends : others).flatMap((to) => (from === to ? [] : [{ from, to }])),
  );
  return pairs.flatMap(({ from, to }) => changesBetween(old, next, from, to, ports));
}

/** What there is, or would be. */
interface State {
  readonly policy: NodePolicy;
  readonly facts: HostFacts;
}

/** An end of connections. */
interface Place extends PathEnd {
  /** Of a pod's endpoint. */
  readonly key?: string;
  readonly title: string;
  readonly addresses: readonly Ip[];
}

function keyOf(event: Event): Key {
  return event.op === 'delete' ? event.key : event.entry.key;
}

/** Everything on one node, as verdicts do not depend on where it is. */
function stateOf(cluster: readonly Event[], log: Log): State {
  const index = new PolicyIndex(sliceNode, log);
  for (const event of cluster) {
    const { type } = keyOf(event);
    if (isStaged(keyOf(event))) continue;
    index.apply(type === 'WorkloadEndpoint' ? moved(event) : type === 'HostEndpoint' ? onDevice(event) : event);
  }
  return { policy: index.snapshot(), facts: new HostFacts(cluster) };
}

function podsOf(cluster: readonly Event[]): Place[] {
  return cluster.flatMap((event) => {
    if (event.op !== 'set' || event.entry.key.type !== 'WorkloadEndpoint') return [];
    const { metadata, spec } = event.entry.value as WorkloadEndpoint;
    const addresses = spec.ipNetworks.map((net) => cidrParts(parseCidr(net)).address);
    const title = `${metadata.namespace}/${spec.pod ?? metadata.name}`;
    return [{ key: keyText(event.entry.key), title, addresses, node: spec.node, host: false }];
  });
}

/** The nodes that have host endpoints before or after, by the addresses that they have after. */
function nodesOf(old: State, next: State): Place[] {
  const names = [...new Set([...old.facts.nodes(), ...next.facts.nodes()])].sort();
  return names.map((node) => {
    const addresses = [...new Set([...next.facts.addressesOf(node), ...old.facts.addressesOf(node)])];
    return { title: `host:${node}`, addresses, node, host: true };
  });
}

/** For what a node itself sends and receives, and for what it forwards. */
interface Differing {
  readonly own: boolean;
  readonly forwarded: boolean;
}

/** Of nodes whose failsafe ports are others before than after. */
function failsafesThatDiffer(old: HostFacts, next: HostFacts): Failsafe[] {
  return [...new Set([...old.nodes(), ...next.nodes()])].flatMap((node) => {
    const both = [old.failsafesOf(node), next.failsafesOf(node)];
    const [a, b] = both.map((each) => JSON.stringify(each));
    return a === b ? [] : both.flatMap(({ inbound, outbound }) => [...inbound, ...outbound]);
  });
}

function hostsDiffer(old: State, next: State, node: string): Differing {
  const facts = old.facts.view(node) !== next.facts.view(node);
  const keys = [old, next].flatMap(({ facts: each }) => each.hostsOf(node).map(({ key }) => key));
  const other = (text: typeof view) => keys.some((key) => text(old.policy, key) !== text(next.policy, key));
  return { own: facts || other(view), forwarded: facts || other(forwardView) };
}

function differs(old: State, next: State, { key, node, host }: Place, hosts: ReadonlyMap<string, Differing>): boolean {
  const there = node === undefined ? undefined : hosts.get(node);
  if (host) return there?.own ?? false;
  return (there?.forwarded ?? false) || (key !== undefined && view(old.policy, key) !== view(next.policy, key));
}

function changesBetween(old: State, next: State, from: Place, to: Place, ports: readonly Asked[]): Change[] {
  return ([4, 6] as const).flatMap((family) => {
    const source = from.addresses.find((address) => familyOf(address) === family);
    const destination = to.addresses.find((address) => familyOf(address) === family);
    if (!source || !destination) return [];
    const ends = { source, destination };
    const ways = [old, next].map(({ facts }) => passings(facts, ends, from, to)) as [Passing[], Passing[]];
    return ports.flatMap(({ protocol, number, port }): Change[] => {
      const packet = { ...ends, protocol: number, sourcePort: 40_000, destinationPort: port };
      const before = verdict(old, packet, from, to, ways[0]);
      const after = verdict(next, packet, from, to, ways[1]);
      return before === after ? [] : [{ from: from.title, to: to.title, family, protocol, port, before, after }];
    });
  });
}

/** A host endpoint of which it is not known whether a connection passes it is not asked. */
function verdict(
  { policy, facts }: State,
  packet: Omit<Packet, 'endpoint' | 'direction'>,
  from: Place,
  to: Place,
  way: readonly Passing[],
): 'allow' | 'deny' {
  // A node always reaches its own pods.
  if (from.host && from.node === to.node) return 'allow';
  const atPod = ({ key }: Place, direction: Packet['direction']) =>
    key === undefined || evaluate(policy, { ...packet, endpoint: key, direction }).verdict === 'allow';
  const atHost = ({ found, direction, node, passage }: Passing) => {
    if (typeof found === 'string') return true;
    const asked = { ...packet, endpoint: found.key, direction };
    return evaluateAtHost(policy, asked, passage, facts.failsafesOf(node)).verdict === 'allow';
  };
  return atPod(from, 'egress') && atPod(to, 'ingress') && way.every(atHost) ? 'allow' : 'deny';
}
