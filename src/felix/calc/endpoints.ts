import { InputError } from '../../base/errors.ts';
import type { Entry, Event, Type } from '../../datastore/store.ts';
import { keyText } from '../../datastore/store.ts';
import type { Route } from '../../kernel/types.ts';
import { cidrParts, type Family, familyOf, hostCidr, type Ip, parseCidr } from '../../model/address.ts';
import { type EndpointWishes, endpointWishes } from '../../model/bandwidth.ts';
import type { WorkloadEndpoint } from '../../model/kinds.ts';
import { deviceRoute } from './route.ts';

/** A workload endpoint of this node, as far as the kernel is concerned. */
export interface LocalEndpoint {
  /** `keyText` of its key. */
  readonly key: string;
  /** `namespace/pod`, or the resource's name when it is no pod's. */
  readonly name: string;
  readonly interfaceName: string;
  /** Of the families that the node handles, in the order given. */
  readonly addresses: readonly Ip[];
  /** Revision of the stored object. */
  readonly revision: string;
  /** RFC 3339; the later of two that claim one address has it. */
  readonly created: string;
  readonly wishes: EndpointWishes;
  /** Wishes that could not be understood, and so count as none. */
  readonly problem?: InputError;
}

/**
 * Local endpoints by key, from WorkloadEndpoint events in any order. An endpoint whose stored form does not parse keeps
 * its last good form. The same entry again gives the same object, so that identity tells whether anything changed.
 */
export class LocalEndpoints {
  readonly byKey = new Map<string, LocalEndpoint>();

  constructor(
    private readonly options: {
      readonly node: string;
      readonly families: readonly Family[];
      readonly interfacePrefix: string;
      /** Pods may be given sources besides their own addresses. */
      readonly sourceSpoofing?: boolean;
    },
  ) {}

  /**
   * @returns what stood before and what stands now, when they differ
   * @throws InputError for a local endpoint whose device is no pod's
   */
  apply(event: Event): { before?: LocalEndpoint; after?: LocalEndpoint } | undefined {
    const key = keyText(event.op === 'delete' ? event.key : event.entry.key);
    const before = this.byKey.get(key);
    if (event.op === 'invalid') return undefined;
    const after =
      event.op === 'set' && isEntry(event.entry, 'WorkloadEndpoint') ? this.#local(key, event.entry) : undefined;
    if (after === undefined && before === undefined) return undefined;
    if (after !== undefined && before?.revision === after.revision) return undefined;
    if (after) this.byKey.set(key, after);
    else this.byKey.delete(key);
    return { ...(before && { before }), ...(after && { after }) };
  }

  #local(key: string, { value, revision }: Entry<'WorkloadEndpoint'>): LocalEndpoint | undefined {
    if (value.spec.node !== this.options.node) return undefined;
    const { namespace, name, creationTimestamp } = value.metadata;
    const { interfaceName } = value.spec;
    // The firewall knows pods by this prefix; a route through any other device would go past it.
    if (!interfaceName.startsWith(this.options.interfacePrefix))
      throw new InputError(
        `${key}.spec.interfaceName`,
        interfaceName,
        `a device name with ${this.options.interfacePrefix} first`,
      );
    const addresses = value.spec.ipNetworks
      .map((text) => cidrParts(parseCidr(text, `WorkloadEndpoint(${name}).spec.ipNetworks`)).address)
      .filter((address) => this.options.families.includes(familyOf(address)));
    return {
      key,
      name: namespace === undefined ? name : `${namespace}/${value.spec.pod ?? name}`,
      interfaceName,
      addresses: [...new Set(addresses)],
      revision,
      created: creationTimestamp ?? '',
      ...this.#wishes(value),
    };
  }

  /** Whoever may annotate a pod could else let it speak as anybody. */
  #wishes(value: WorkloadEndpoint): Pick<LocalEndpoint, 'wishes' | 'problem'> {
    const found = wishesOf(value);
    return this.options.sourceSpoofing ? found : { ...found, wishes: { ...found.wishes, sourcePrefixes: [] } };
  }
}

const noWishes: EndpointWishes = { sourcePrefixes: [] };

/** A pod whose annotations nobody understands is a pod without them. */
function wishesOf(value: WorkloadEndpoint): Pick<LocalEndpoint, 'wishes' | 'problem'> {
  try {
    return { wishes: endpointWishes(value) };
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    return { wishes: noWishes, problem: thrown };
  }
}

/** A route to each address through the endpoint's device. */
export function endpointRoutes(endpoint: LocalEndpoint): Route[] {
  return endpoint.addresses.map((address) => deviceRoute(hostCidr(address), endpoint.interfaceName));
}

/** Whether an entry is of one type; the union does not narrow its value by itself. */
export function isEntry<T extends Type>(entry: Entry, type: T): entry is Entry<T> & Entry {
  return entry.key.type === type;
}
