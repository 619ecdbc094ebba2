import type { Log } from '../base/log.ts';
import type { Event } from '../datastore/store.ts';
import type { Family } from '../model/address.ts';
import { PolicyIndex } from '../policy/policy-index.ts';
import { defaultRenderOptions, type Filter, FilterRenderer } from '../policy/render.ts';
import type { PolicySource } from './calc/graph.ts';
import type { FelixConfig } from './config.ts';

/** The policy compiler and its renderer as one source of the calculation. */
export class RenderedPolicy implements PolicySource {
  readonly #index: PolicyIndex;
  readonly #renderer: FilterRenderer;

  constructor(node: string, config: Pick<FelixConfig, 'interfacePrefix' | 'endpointToHost'>, log: Log) {
    const { interfacePrefix, endpointToHost } = config;
    this.#index = new PolicyIndex(node, log);
    this.#renderer = new FilterRenderer({ ...defaultRenderOptions, interfacePrefix, endpointToHost });
  }

  apply(event: Event): void {
    this.#index.apply(event);
  }

  filter(family: Family): Filter {
    return this.#renderer.render(this.#index.snapshot(), family);
  }

  problems() {
    return this.#index.problems();
  }

  activePolicies(): number {
    return this.#index.snapshot().policies.size;
  }
}
