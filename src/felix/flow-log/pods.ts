import { type Event, keyText } from '../../datastore/store.ts';
import type { Update } from '../../datastore/update.ts';
import { cidrParts, type Ip, parseCidr } from '../../model/address.ts';
import type { WorkloadEndpoint } from '../../model/kinds.ts';

interface Pod {
  readonly namespace: string;
  readonly pod: string;
}

/** The cluster's pods by their addresses. */
export class PodNames {
  readonly #byAddress = new Map<Ip, { readonly key: string; readonly name: Pod }>();
  readonly #addresses = new Map<string, readonly Ip[]>();

  consume(update: Update): void {
    if (update.op === 'events') for (const event of update.events) this.#apply(event);
  }

  at(address: Ip): Pod | undefined {
    return this.#byAddress.get(address)?.name;
  }

  /** What cannot be read stays as it was. */
  #apply(event: Event): void {
    const stored = event.op === 'delete' ? event.key : event.entry.key;
    if (stored.type !== 'WorkloadEndpoint' || event.op === 'invalid') return;
    const key = keyText(stored);
    // One that replaces another may have taken its address before the other is deleted.
    for (const address of this.#addresses.get(key) ?? [])
      if (this.#byAddress.get(address)?.key === key) this.#byAddress.delete(address);
    this.#addresses.delete(key);
    if (event.op === 'delete') return;
    const { metadata, spec } = event.entry.value as WorkloadEndpoint;
    const name = { namespace: metadata.namespace ?? '', pod: spec.pod ?? metadata.name };
    const addresses = spec.ipNetworks.map((net) => cidrParts(parseCidr(net)).address);
    this.#addresses.set(key, addresses);
    for (const address of addresses) this.#byAddress.set(address, { key, name });
  }
}
