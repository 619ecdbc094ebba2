import type { Log } from '../../base/log.ts';
import type { Key, Type } from '../store.ts';
import type { ApiClient } from './client.ts';
import type { KubernetesConfig } from './config.ts';
import { type CalicoGroup, calicoGroup, type Place, v3Group } from './resources.ts';
import type { Source } from './source.ts';
import { Sources } from './sources.ts';

/**
 * The sources, once it is known which definitions of Calico's the server has: crd.projectcalico.org/v1 wherever it is
 * installed, for beside it projectcalico.org/v3 is an aggregated API on the same objects; projectcalico.org/v3 where it
 * alone is. While there is neither, they may still come.
 */
export class ChosenSources {
  #chosen: Promise<Sources> | undefined;
  readonly #served = new Map<Source, Promise<Source>>();

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

  /** The sources of types, of versions that the server has. @throws StoreUnavailableError */
  async of(types: readonly Type[]): Promise<readonly Source[]> {
    const found = (await this.get()).of(types);
    return Promise.all(
      found.map((source) => (source.older === undefined ? source : this.#version(source, source.older))),
    );
  }

  /** The source and place of a key; undefined when no object can stand for it. @throws InputError, StoreUnavailableError */
  async locate(key: Key): Promise<{ readonly source: Source; readonly place: Place } | undefined> {
    for (const source of await this.of([key.type])) {
      const place = source.place(key);
      if (place) return { source, place };
    }
    return undefined;
  }

  /** Asked once; again where there was no answer. */
  #version(source: Source, older: Source): Promise<Source> {
    const known = this.#served.get(source);
    if (known !== undefined) return known;
    const { group, version, plural } = source.resource;
    const asked = this.client.serves(group, version).then(
      (served) => {
        if (served !== false) return source;
        const instead = `${group}/${older.resource.version}`;
        this.log.warn({ resource: plural, instead }, `the API server is without ${group}/${version}`);
        return older;
      },
      (thrown: unknown) => {
        this.#served.delete(source);
        throw thrown;
      },
    );
    this.#served.set(source, asked);
    return asked;
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
