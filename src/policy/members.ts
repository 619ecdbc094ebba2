import { type Cidr, cidrParts } from '../model/address.ts';
import { hashId, kindLabel, nodeKind, type Selector } from '../model/selector.ts';
import type { IpSet, SetId } from './ir.ts';
import { LabelIndex, type LabelIndexEvents, type LabelMap } from './labels.ts';

export type PortProtocol = 'tcp' | 'udp' | 'sctp';

/** A set that a rule refers to: addresses of what the selector matches, or one named port of it. */
export interface SetRequest {
  readonly id: SetId;
  readonly selector: Selector;
  readonly port?: { readonly name: string; readonly protocol: PortProtocol };
}

/** Whether a set is of nodes; only its selector says so. */
function isOfNodes({ selector }: SetRequest): boolean {
  return selector.pins.get(kindLabel)?.every((value) => value === nodeKind) ?? false;
}

/** What an endpoint brings into the sets that it is in. */
export interface EndpointFacts {
  readonly addresses: readonly Cidr[];
  readonly ports: readonly { readonly name: string; readonly protocol: PortProtocol; readonly port: number }[];
}

export function selectorSet(selector: Selector): SetRequest {
  return { id: selector.id as SetId, selector };
}

export function namedPortSet(selector: Selector, name: string, protocol: PortProtocol): SetRequest {
  const id = hashId('n:', `${protocol},${name},${selector.canonical}`) as SetId;
  return { id, selector, port: { name, protocol } };
}

interface Active {
  readonly request: SetRequest;
  users: number;
  /** Member → endpoints that bring it: two may share an address while one replaces the other. */
  readonly members: Map<string, number>;
  cached: IpSet | undefined;
}

/**
 * Members of the IP sets in use. One change of an endpoint touches the sets that it joins, leaves, or brings another
 * address to, and no others.
 */
export class SetTable {
  readonly #active = new Map<SetId, Active>();
  readonly #facts = new Map<string, EndpointFacts>();
  readonly #events: LabelIndexEvents = {
    join: (id, endpoint) => this.#count(id as SetId, this.#facts.get(endpoint), 1),
    leave: (id, endpoint) => this.#count(id as SetId, this.#facts.get(endpoint), -1),
  };
  readonly #endpoints = new LabelIndex(this.#events);
  /** Apart, so that no selector reaches nodes but those that mean nodes. */
  readonly #nodes = new LabelIndex(this.#events);
  #snapshot: ReadonlyMap<SetId, IpSet> | undefined;

  setEndpoint(name: string, labels: LabelMap, facts: EndpointFacts): void {
    this.#set(this.#endpoints, name, labels, facts);
  }

  deleteEndpoint(name: string): void {
    this.#endpoints.deleteItem(name);
    this.#facts.delete(name);
  }

  setNode(name: string, labels: LabelMap, facts: EndpointFacts): void {
    this.#set(this.#nodes, name, labels, facts);
  }

  deleteNode(name: string): void {
    this.#nodes.deleteItem(name);
    this.#facts.delete(name);
  }

  #set(index: LabelIndex, name: string, labels: LabelMap, facts: EndpointFacts): void {
    const before = this.#facts.get(name);
    if (!before || JSON.stringify(before) !== JSON.stringify(facts)) {
      for (const id of index.matches(name)) {
        this.#count(id as SetId, facts, 1);
        this.#count(id as SetId, before, -1);
      }
      this.#facts.set(name, facts);
    }
    index.setItem(name, labels);
  }

  retain(request: SetRequest): void {
    const active = this.#active.get(request.id);
    if (active) {
      active.users++;
      return;
    }
    this.#active.set(request.id, { request, users: 1, members: new Map(), cached: undefined });
    this.#snapshot = undefined;
    this.#indexOf(request).setSelector(request.id, request.selector);
  }

  release(request: SetRequest): void {
    const active = this.#active.get(request.id);
    if (!active || --active.users > 0) return;
    this.#indexOf(active.request).deleteSelector(request.id);
    this.#active.delete(request.id);
    this.#snapshot = undefined;
  }

  #indexOf(request: SetRequest): LabelIndex {
    return isOfNodes(request) ? this.#nodes : this.#endpoints;
  }

  /** Unchanged sets, and the map if no set changed, are the same objects as before. */
  snapshot(): ReadonlyMap<SetId, IpSet> {
    this.#snapshot ??= new Map([...this.#active].map(([id, active]) => [id, present(active)]));
    return this.#snapshot;
  }

  #count(id: SetId, facts: EndpointFacts | undefined, change: 1 | -1): void {
    const active = this.#active.get(id);
    if (!active || !facts) return;
    for (const member of membersOf(facts, active.request)) {
      const count = (active.members.get(member) ?? 0) + change;
      if (count > 0) active.members.set(member, count);
      else active.members.delete(member);
      if (count > 1 || (count === 1 && change < 0)) continue;
      active.cached = undefined;
      this.#snapshot = undefined;
    }
  }
}

function membersOf({ addresses, ports }: EndpointFacts, { port }: SetRequest): string[] {
  if (!port) return [...new Set(addresses)];
  const numbers = ports.filter(({ name, protocol }) => name === port.name && protocol === port.protocol);
  const members = addresses.flatMap((cidr) =>
    numbers.map((number) => `${cidrParts(cidr).address},${number.protocol}:${number.port}`),
  );
  return [...new Set(members)];
}

function present(active: Active): IpSet {
  const { id, selector, port } = active.request;
  active.cached ??= {
    id,
    type: port ? 'hash:ip,port' : 'hash:net',
    description: port ? `port ${port.name}/${port.protocol} of ${selector.canonical}` : selector.canonical,
    members: new Set(active.members.keys()),
  };
  return active.cached;
}
