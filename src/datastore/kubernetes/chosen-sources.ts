import type { Log } from '../../base/log.ts';
import type { ApiClient } from './client.ts';
import type { KubernetesConfig } from './config.ts';
import { type CalicoGroup, calicoGroup, v3Group } from './resources.ts';
import { Sources } from './sources.ts';

/**
 * The sources, once it is known which definitions of Calico's the server has: crd.projectcalico.org/v1 wherever it is
 * installed, for beside it projectcalico.org/v3 is an aggregated API on the same objects; projectcalico.org/v3 where it
 * alone is. While there is neither, they may still come.
 */
export class ChosenSources {
  #chosen: Promise<Sources> | undefined;

  constructor(
    private readonly config: KubernetesConfig,
    private readonly client: ApiClient,
    private readonly log: Log,
    private readonly own: boolean,
  ) {}

  /** @throws StoreUnavailableError */
  get(): Promise<Sources> {
    this.#chosen ??= this.#choose();
    return this.#chosen;
  }

  async #choose(): Promise<Sources> {
    const { interfacePrefix, group } = this.config;
    if (group !== undefined || this.own) return new Sources(interfacePrefix, this.own, group);
    try {
      const found = await this.#discover();
      if (found === undefined) this.#chosen = undefined;
      return new Sources(interfacePrefix, false, found);
    } catch (thrown) {
      this.#chosen = undefined;
      throw thrown;
    }
  }

  async #discover(): Promise<CalicoGroup | undefined> {
    const old = await this.client.serves(calicoGroup, 'v1');
    if (old === undefined) this.log.warn({ group: calicoGroup }, 'the API server may not be asked for its groups');
    if (old !== false) return calicoGroup;
    return (await this.client.serves(v3Group, 'v3')) ? v3Group : undefined;
  }
}
