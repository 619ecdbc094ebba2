import type { Log } from '../base/log.ts';
import type { Event } from '../datastore/store.ts';
import type { Family } from '../model/address.ts';
import type { NodePolicy } from './ir.ts';
import { PolicyIndex, type PolicyProblem } from './policy-index.ts';
import { defaultRenderOptions, type Filter, FilterRenderer, type RenderOptions } from './render.ts';

/** Policy of a node from datastore events to iptables: the index and the renderer as one. */
export class NodePolicySource {
  readonly #index: PolicyIndex;
  readonly #renderer: FilterRenderer;

  constructor(node: string, log: Log, options: RenderOptions = defaultRenderOptions) {
    this.#index = new PolicyIndex(node, log);
    this.#renderer = new FilterRenderer(options);
  }

  apply(event: Event): void {
    this.#index.apply(event);
  }

  snapshot(): NodePolicy {
    return this.#index.snapshot();
  }

  /** The same object again as long as nothing changed. */
  filter(family: Family): Filter {
    return this.#renderer.render(this.#index.snapshot(), family);
  }

  problems(): readonly PolicyProblem[] {
    return this.#index.problems();
  }

  /** Policies that local endpoints refer to. */
  activePolicies(): number {
    return this.#index.snapshot().policies.size;
  }
}
