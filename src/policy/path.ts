import type { Log } from '../base/log.ts';
import type { Event } from '../datastore/store.ts';
import type { Ip } from '../model/address.ts';
import type { Packet } from './evaluate.ts';
import { explainAtHost, type HostTrace } from './host.ts';
import { HostFacts, type StoredHost } from './host-facts.ts';
import { PolicyIndex } from './policy-index.ts';
import { slice, sliceNode } from './slice.ts';

/* Which host endpoints a connection passes between two ends, from the stored objects alone, and what they decide. */

/** An end of a connection: on a node of the cluster, or nowhere known. */
export interface PathEnd {
  readonly node: string | undefined;
  /** Whether it is the node itself, and not a pod on it. */
  readonly host: boolean;
}

export interface HostStep extends HostTrace {
  /** `keyText` of the host endpoint. */
  readonly key: string;
  readonly hostEndpoint: string;
  readonly node: string;
  /** As the host endpoint names it; without a name, the addresses by which it is found. */
  readonly device: string;
}

export interface Path {
  readonly steps: readonly HostStep[];
  /** What cannot be told, and what is wrong in the objects that count. */
  readonly problems: readonly string[];
}

/** A device that a connection passes. */
export interface Passing {
  readonly direction: Packet['direction'];
  readonly node: string;
  readonly passage: 'own' | 'forwarded';
  /** Text when several can be meant. */
  readonly found: StoredHost | string;
}

/** Where a connection passes host endpoints; what stays on one node meets none. */
export function passings(
  facts: HostFacts,
  addresses: { readonly source: Ip; readonly destination: Ip },
  from: PathEnd,
  to: PathEnd,
): Passing[] {
  if (from.node === to.node || facts.nodes().length === 0) return [];
  const between = from.node !== undefined && to.node !== undefined && !to.host;
  const tunnelled = between && facts.encapsulated(addresses.destination, from.node ?? '', to.node ?? '');
  return (
    [
      ['egress', from],
      ['ingress', to],
    ] as const
  ).flatMap(([direction, { node, host }]) => {
    const found = node === undefined ? undefined : facts.at(node, addresses, tunnelled);
    return node === undefined || !found ? [] : [{ direction, node, passage: host ? 'own' : 'forwarded', found }];
  });
}

/** What host endpoints decide on a packet on its way. */
export function hostPath(
  cluster: readonly Event[],
  packet: Omit<Packet, 'endpoint' | 'direction'>,
  from: PathEnd,
  to: PathEnd,
  log: Log,
): Path {
  const facts = new HostFacts(cluster);
  if (from.node === to.node)
    return { steps: [], problems: to.host && !from.host ? ownHostProblems(facts, from.node ?? '') : [] };
  const steps: HostStep[] = [];
  const problems: string[] = [];
  for (const passing of passings(facts, packet, from, to)) {
    if (typeof passing.found === 'string') {
      problems.push(passing.found);
      continue;
    }
    const step = asked(cluster, facts, passing, passing.found, packet, log);
    steps.push(step.trace);
    problems.push(...step.problems);
  }
  return { steps, problems };
}

function asked(
  cluster: readonly Event[],
  facts: HostFacts,
  { direction, node, passage }: Passing,
  { key, event, value }: StoredHost,
  packet: Omit<Packet, 'endpoint' | 'direction'>,
  log: Log,
): { readonly trace: HostStep; readonly problems: readonly string[] } {
  const index = new PolicyIndex(sliceNode, log);
  for (const each of slice(cluster, [packet.source, packet.destination], event)) index.apply(each);
  const device = value.spec.interfaceName ?? value.spec.expectedIPs.join(', ');
  const whole = { ...packet, direction, endpoint: key };
  const trace = explainAtHost(index.snapshot(), whole, passage, facts.failsafesOf(node), device);
  return {
    trace: { key, hostEndpoint: value.metadata.name, node, device, ...trace },
    problems: index.problems().map(({ key: at, error }) => `${at}: ${error.message}`),
  };
}

/** The addresses of a node: those that its object names first, then those that its host endpoints expect. */
export function addressesOfHost(cluster: readonly Event[], node: string): readonly Ip[] {
  return new HostFacts(cluster).addressesOf(node);
}

/** The node that has the address. */
export function hostWith(cluster: readonly Event[], address: Ip): string | undefined {
  return new HostFacts(cluster).withAddress(address);
}

/** What a pod may send to its own host meets a setting of the agent, of which only the stored part is known. */
function ownHostProblems(facts: HostFacts, node: string): string[] {
  const stored = facts.field(node, 'defaultEndpointToHostAction') ?? 'Drop';
  if (stored.toLowerCase() !== 'drop') return [];
  return [
    `node ${node} drops what its own pods send to it (defaultEndpointToHostAction), unless its agent's environment says otherwise`,
  ];
}
