import { type Cidr, cidrParts } from '../model/address.ts';
import { equals, hashId, kindLabel, nodeKind, type Selector } from '../model/selector.ts';
import type { IpSet, SetId } from './ir.ts';
import { LabelIndex, type LabelIndexEvents, type LabelMap, type LabelStats } from './labels.ts';
import type { PortProtocol } from './port-protocols.ts';

export type { PortProtocol } from './port-protocols.ts';

/** What can be in sets. Selectors reach the objects of one place only. */
export type Place = 'endpoints' | 'nodes' | 'services';

/** A set that a rule refers to: addresses of what the selector matches, or ports of it. */
export interface SetRequest {
  readonly id: SetId;
  readonly selector: Selector;
  readonly place: Place;
  /** What it stands for where that is not its selector. */
  readonly title?: string;
  /** The addresses with a port of this name and protocol, or with every port that they have. */
  readonly port?: { readonly name: string; readonly protocol: PortProtocol } | 'all';
}

/** Nodes where the selector demands them. */
function placeOf(selector: Selector): Place {
  return selector.pins.get(kindLabel)?.every((value) => value === nodeKind) ? 'nodes' : 'endpoints';
}

/** What an endpoint brings into the sets that it is in. */
export interface EndpointFacts {
  readonly addresses: readonly Cidr[];
  readonly ports: readonly { readonly name: string; readonly protocol: PortProtocol; readonly port: number }[];
}

export function selectorSet(selector: Selector): SetRequest {
  return { id: selector.id as SetId, selector, place: placeOf(selector) };
}

/** Label of the one object in the place of services: its namespace and name. */
export const serviceLabel = 'service';

/** The endpoints behind a service, with the ports that it reaches them on or without. */
export function serviceSet(namespace: string, name: string, withPorts: boolean): SetRequest {
  const service = `${namespace}/${name}`;
  const id = hashId(withPorts ? 'svc:' : 'svcnoport:', service) as SetId;
  const title = `endpoints of service ${service}`;
  return { id, selector: equals(serviceLabel, service), place: 'services', title, ...(withPorts && { port: 'all' }) };
}

export function namedPortSet(selector: Selector, name: string, protocol: PortProtocol): SetRequest {
  const id = hashId('n:', `${protocol},${name},${selector.canonical}`) as SetId;
  return { id, selector, place: placeOf(selector), port: { name, protocol } };
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
  /** What an endpoint that is being set brought to the sets that it leaves by that. */
  #left: EndpointFacts | undefined;
  readonly #events: LabelIndexEvents = {
    join: (id, endpoint) => this.#count(id as SetId, this.#facts.get(endpoint), 1),
    leave: (id, endpoint) => this.#count(id as SetId, this.#left ?? this.#facts.get(endpoint), -1),
  };
  readonly #places: Readonly<Record<Place, LabelIndex>> = {
    endpoints: new LabelIndex(this.#events),
    nodes: new LabelIndex(this.#events),
    services: new LabelIndex(this.#events),
  };
  #snapshot: ReadonlyMap<SetId, IpSet> | undefined;

  /** @param name unique over all places */
  set(place: Place, name: string, labels: LabelMap, facts: EndpointFacts): void {
    const index = this.#places[place];
    const before = this.#facts.get(name);
    const changed = before !== undefined && JSON.stringify(before) !== JSON.stringify(facts);
    const was = new Set(changed ? index.matches(name) : []);
    if (!before || changed) this.#facts.set(name, facts);
    this.#left = before;
    index.setItem(name, labels);
    this.#left = undefined;
    if (!changed) return;
    for (const id of index.matches(name)) {
      if (!was.has(id)) continue;
      this.#count(id as SetId, facts, 1);
      this.#count(id as SetId, before, -1);
    }
  }

  delete(place: Place, name: string): void {
    this.#places[place].deleteItem(name);
    this.#facts.delete(name);
  }

  retain(request: SetRequest): void {
    const active = this.#active.get(request.id);
    if (active) {
      active.users++;
      return;
    }
    this.#active.set(request.id, { request, users: 1, members: new Map(), cached: undefined });
    this.#snapshot = undefined;
    this.#places[request.place].setSelector(request.id, request.selector);
  }

  release(request: SetRequest): void {
    const active = this.#active.get(request.id);
    if (!active || --active.users > 0) return;
    this.#places[active.request.place].deleteSelector(request.id);
    this.#active.delete(request.id);
    this.#snapshot = undefined;
  }

  /** Of all places together. */
  get stats(): LabelStats {
    const all = Object.values(this.#places).map((index) => index.stats);
    const sum = (figure: keyof LabelStats) => all.reduce((total, one) => total + one[figure], 0);
    const [items, pinned, unpinned] = [sum('items'), sum('pinned'), sum('unpinned')];
    return { items, pinned, unpinned, matched: sum('matched'), unmatched: sum('unmatched') };
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
  const numbers =
    port === 'all' ? ports : ports.filter(({ name, protocol }) => name === port.name && protocol === port.protocol);
  const members = addresses.flatMap((cidr) =>
    numbers.map((number) => `${cidrParts(cidr).address},${number.protocol}:${number.port}`),
  );
  return [...new Set(members)];
}

function present(active: Active): IpSet {
  active.cached ??= {
    id: active.request.id,
    type: active.request.port ? 'hash:ip,port' : 'hash:net',
    description: descriptionOf(active.request),
    members: new Set(active.members.keys()),
  };
  return active.cached;
}

function descriptionOf({ selector, port, title }: SetRequest): string {
  if (title !== undefined) return title;
  return port && port !== 'all' ? `port ${port.name}/${port.protocol} of ${selector.canonical}` : selector.canonical;
}
