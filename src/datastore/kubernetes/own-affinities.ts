import type { Log } from '../../base/log.ts';
import { ownerParts } from '../../model/ipam.ts';
import type { ApiClient, ApiListing } from './client.ts';
import { affinitySource, missingLabels } from './ipam.ts';
import { hostnameHash } from './names.ts';
import type { ApiObject, ApiResource } from './resources.ts';

/**
 * A node's affinities, found by label. Those that old versions wrote have none: at its first list every node looks
 * through all, and labels its own.
 */
export class Affinities {
  readonly #labelled = new Set<string>();

  constructor(
    private readonly client: ApiClient,
    private readonly log: Log,
  ) {}

  async list(resource: ApiResource, host: string, scope: { resourceVersion?: string }): Promise<ApiListing> {
    if (scope.resourceVersion === undefined && !this.#labelled.has(host)) await this.#label(resource, host);
    const { type, name } = ownerParts(host);
    const labelSelector = `projectcalico.org/hostname-hash=${hostnameHash(name)},projectcalico.org/affinity-type=${type}`;
    return this.client.list(resource, { ...scope, query: { labelSelector } });
  }

  async #label(resource: ApiResource, host: string): Promise<void> {
    const { objects } = await this.client.list(resource, {});
    for (const object of objects) {
      const key = affinitySource.keyOf(object);
      if (key?.type === 'BlockAffinity' && key.host === host) await this.#labelOne(resource, object);
    }
    this.#labelled.add(host);
  }

  async #labelOne(resource: ApiResource, object: ApiObject): Promise<void> {
    const labels = missingLabels(object);
    if (labels === undefined) return;
    const { name, resourceVersion } = object.metadata;
    const { outcome } = await this.client.patch({ resource, name }, { metadata: { resourceVersion, labels } });
    this.log.info({ affinity: name, outcome }, 'labelled an affinity of an old version');
  }
}
