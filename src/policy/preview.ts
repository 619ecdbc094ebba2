import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Event, type Key, keyText } from '../datastore/store.ts';
import { cidrParts, type Family, familyOf, type Ip, parseCidr } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { evaluate } from './evaluate.ts';
import type { NodePolicy, Rule } from './ir.ts';
import { PolicyIndex } from './policy-index.ts';
import { sliceNode } from './slice.ts';
import { isStaged } from './staged.ts';

/*
 * What a change of objects does to connections between pods. Only pairs with an end whose policy differs are asked, on
 * the ports that the policies of either side name, and on one that they do not.
 */

export interface Change {
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

const protocols = [
  ['tcp', 6],
  ['udp', 17],
  ['sctp', 132],
] as const;

/** The objects with those of the same key replaced, and new ones added. */
export function merged(cluster: readonly Event[], change: readonly Event[]): Event[] {
  const all = new Map<string, Event>();
  for (const event of [...cluster, ...change]) all.set(keyText(keyOf(event)), event);
  return [...all.values()];
}

/** @throws InputError when the change concerns more pairs than can be asked */
export function preview(before: readonly Event[], after: readonly Event[], log: Log): Change[] {
  const [old, next] = [policyOf(before, log), policyOf(after, log)];
  const pods = podsOf(after);
  const ports = portsOf([old, next]);
  const touched = new Set(pods.filter(({ key }) => view(old, key) !== view(next, key)).map(({ key }) => key));
  const setsDiffer = [...old.sets].some(([id, set]) => !sameMembers(set.members, next.sets.get(id)?.members));
  const concerned = (key: string) => setsDiffer || touched.has(key);
  const still = pods.filter(({ key }) => !concerned(key)).length;
  const count = pods.length * (pods.length - 1) - still * (still - 1);
  if (count * ports.length > mostQuestions)
    throw new InputError('--filename', `${count} pairs of pods on ${ports.length} ports`, 'a smaller change');
  const ends = pods.filter(({ key }) => concerned(key));
  const pairs = pods.flatMap((from) =>
    (concerned(from.key) ? pods : ends).flatMap((to) => (from === to ? [] : [{ from, to }])),
  );
  return pairs.flatMap(({ from, to }) => ports.flatMap((port) => changesOf(old, next, from, to, port)));
}

interface Pod {
  readonly key: string;
  readonly title: string;
  readonly addresses: readonly Ip[];
}

interface Port {
  readonly protocol: Change['protocol'];
  readonly number: number;
  readonly port: number;
}

function keyOf(event: Event): Key {
  return event.op === 'delete' ? event.key : event.entry.key;
}

function policyOf(cluster: readonly Event[], log: Log): NodePolicy {
  const index = new PolicyIndex(sliceNode, log);
  for (const event of cluster) {
    if (isStaged(keyOf(event))) continue;
    if (event.op !== 'set' || event.entry.key.type !== 'WorkloadEndpoint') {
      index.apply(event);
      continue;
    }
    const value = event.entry.value as WorkloadEndpoint;
    index.apply({
      op: 'set',
      entry: { ...event.entry, value: { ...value, spec: { ...value.spec, node: sliceNode } } },
    });
  }
  return index.snapshot();
}

function podsOf(cluster: readonly Event[]): Pod[] {
  return cluster.flatMap((event) => {
    if (event.op !== 'set' || event.entry.key.type !== 'WorkloadEndpoint') return [];
    const { metadata, spec } = event.entry.value as WorkloadEndpoint;
    const addresses = spec.ipNetworks.map((net) => cidrParts(parseCidr(net)).address);
    return [{ key: keyText(event.entry.key), title: `${metadata.namespace}/${spec.pod ?? metadata.name}`, addresses }];
  });
}

/** Everything that an endpoint is subject to, as text to compare. */
function view(policy: NodePolicy, key: string): string {
  const endpoint = policy.endpoints.get(key);
  const names = endpoint?.tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]) ?? [];
  const profiles = endpoint?.profiles.map((name) => policy.profiles.get(name)) ?? [];
  return JSON.stringify([endpoint, names.map((name) => policy.policies.get(name)), profiles]);
}

function sameMembers(a: ReadonlySet<string>, b: ReadonlySet<string> | undefined): boolean {
  return b === undefined || (a.size === b.size && [...a].every((member) => b.has(member)));
}

/** Both ends of every range and every named port that a rule has, per protocol, and the lowest TCP port of none. */
function portsOf(policies: readonly NodePolicy[]): Port[] {
  const found = new Map<string, Port>();
  for (const policy of policies)
    for (const rules of [...policy.policies.values(), ...policy.profiles.values()])
      for (const { match } of [...rules.ingress, ...rules.egress])
        for (const [protocol, number] of protocols)
          if (match.protocol === number)
            for (const port of portsNamed(match, policy)) found.set(`${protocol} ${port}`, { protocol, number, port });
  let other = 1;
  while (found.has(`tcp ${other}`)) other++;
  return [...found.values(), { protocol: 'tcp', number: 6, port: other }];
}

function portsNamed(match: Rule['match'], { sets }: NodePolicy): number[] {
  const ranges = [...(match.destinationPorts ?? []), ...(match.notDestinationPorts ?? [])];
  const named = [...(match.destinationPortSets ?? []), ...(match.notDestinationPortSets ?? [])];
  const numbers = named.flatMap((id) =>
    [...(sets.get(id)?.members ?? [])].map((member) => Number(member.split(':').at(-1))),
  );
  return [...ranges.flatMap(({ first, last }) => [first, last]), ...numbers].filter((port) => port > 0);
}

function changesOf(old: NodePolicy, next: NodePolicy, from: Pod, to: Pod, { protocol, number, port }: Port): Change[] {
  return ([4, 6] as const).flatMap((family) => {
    const source = from.addresses.find((address) => familyOf(address) === family);
    const destination = to.addresses.find((address) => familyOf(address) === family);
    if (!source || !destination) return [];
    const packet = { source, destination, protocol: number, sourcePort: 40_000, destinationPort: port };
    const verdict = (policy: NodePolicy) =>
      evaluate(policy, { ...packet, endpoint: from.key, direction: 'egress' }).verdict === 'allow' &&
      evaluate(policy, { ...packet, endpoint: to.key, direction: 'ingress' }).verdict === 'allow'
        ? ('allow' as const)
        : ('deny' as const);
    const [before, after] = [verdict(old), verdict(next)];
    return before === after ? [] : [{ from: from.title, to: to.title, family, protocol, port, before, after }];
  });
}
