import type { Family } from '../../model/address.ts';
import {
  type Encapsulation,
  type KernelTunnel,
  kernelTunnels,
  nativeTunnel,
  type PoolMode,
  poolFor,
  type Range,
  tunnelsFor,
} from './tunnels.ts';

/** The pools' wishes for encapsulation, and what of it some node's kernel has not: together they tell which tunnels there are. */
export class PoolModes {
  readonly #pools = new Map<string, PoolMode>();
  /** By key: of two pools with one prefix the same wins whichever came first. */
  #inOrder: readonly PoolMode[] = [];
  /** Nodes whose kernel has not a kind of tunnel. */
  readonly #lacking: Readonly<Record<KernelTunnel, Set<string>>> = { ipip: new Set(), vxlan: new Set() };

  set(key: string, pool: PoolMode | undefined): void {
    if (pool) this.#pools.set(key, pool);
    else this.#pools.delete(key);
    this.#inOrder = [...this.#pools].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
  }

  /** @param lacks what the node's kernel has not; nothing for a node that is gone */
  setNode(node: string, lacks: ReadonlySet<KernelTunnel>): void {
    for (const kind of kernelTunnels)
      if (lacks.has(kind)) this.#lacking[kind].add(node);
      else this.#lacking[kind].delete(node);
  }

  /** The kinds of tunnels that may carry packets of the pools. */
  kinds(family: Family): ReadonlySet<Encapsulation> {
    const lacking = new Set(family === 4 ? kernelTunnels.filter((kind) => this.#lacking[kind].size > 0) : []);
    const own = this.#inOrder.filter(({ range }) => range.family === family);
    return new Set(own.flatMap((pool) => [...tunnelsFor(pool, lacking)]));
  }

  /** Keys of the pools whose packets to other nodes have no way without this kind of tunnel. */
  without(kind: Encapsulation, family?: Family): string[] {
    const last = (pool: PoolMode) => {
      const native = nativeTunnel(pool);
      return native && (pool.fallbacks.at(-1) ?? native);
    };
    const cut = (pool: PoolMode) => last(pool) === kind && (family ?? pool.range.family) === pool.range.family;
    return [...this.#pools].flatMap(([key, pool]) => (cut(pool) ? [key] : [])).sort();
  }

  /** The pool that the range lies in; the longest prefix if several do. */
  of(range: Range): PoolMode | undefined {
    return poolFor(this.#inOrder, range);
  }
}
