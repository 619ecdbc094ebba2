import type { RuleText } from '../../kernel/types.ts';
import { chainName } from './names.ts';

/** A chain of so many interfaces is walked as a list. */
const shortList = 8;

/** One interface's rules in a dispatch chain. The same object as long as they are the same. */
export interface Leaf {
  readonly name: string;
  readonly rules: readonly RuleText[];
}

type Chains = readonly (readonly [string, readonly RuleText[]])[];

/** A subtree as it was rendered last. */
interface Known {
  readonly leaves: readonly Leaf[];
  readonly chains: Chains;
}

/**
 * A tree of chains that leads from an interface to its own rules in few steps: by the next character of the name, level
 * by level, until few are left. Whatever matches no branch is dropped: an interface that nobody knows yet. A subtree
 * whose leaves did not change gives the same arrays again.
 */
export class DispatchTree {
  /** By the name of the subtree's first chain. */
  #known = new Map<string, Known>();

  /**
   * @param root name of the first chain
   * @param flag how a branch matches the beginning of a name
   */
  constructor(
    private readonly root: string,
    private readonly flag: '-i' | '-o',
  ) {}

  /** @param leaves sorted by name, each name once */
  render(leaves: readonly Leaf[]): Chains {
    const fresh = new Map<string, Known>();
    const chains = this.#subtree(this.root, leaves, 0, leaves.length, fresh);
    this.#known = fresh;
    return chains;
  }

  #subtree(chain: string, all: readonly Leaf[], from: number, to: number, fresh: Map<string, Known>): Chains {
    const last = this.#known.get(chain);
    const known = last && sameLeaves(last.leaves, all, from, to) ? last : undefined;
    if (known) {
      for (const [name] of known.chains) fresh.set(name, this.#known.get(name) ?? known);
      return known.chains;
    }
    const chains = to - from <= shortList ? listed(chain, all, from, to) : this.#branches(chain, all, from, to, fresh);
    fresh.set(chain, { leaves: all.slice(from, to), chains });
    return chains;
  }

  #branches(chain: string, all: readonly Leaf[], from: number, to: number, fresh: Map<string, Known>): Chains {
    const depth = commonPrefix(all[from]?.name ?? '', all[to - 1]?.name ?? '') + 1;
    const rules: RuleText[] = [];
    const below: (readonly [string, readonly RuleText[]])[] = [];
    // A whole name sorts before the longer ones that begin with it, so that it is tried before their branch.
    for (let start = from; start < to; ) {
      const { name = '', rules: own = [] } = all[start] ?? {};
      let end = start + 1;
      while (end < to && all[end]?.name[depth - 1] === name[depth - 1]) end++;
      if (end - start === 1) rules.push(...own);
      else {
        const prefix = name.slice(0, depth);
        const child = chainName(`${this.root}-`, prefix);
        rules.push(`${this.flag} ${prefix}+ -g ${child}`);
        below.push(...this.#subtree(child, all, start, end, fresh));
      }
      start = end;
    }
    rules.push('-j DROP');
    return [[chain, rules], ...below];
  }
}

function listed(chain: string, all: readonly Leaf[], from: number, to: number): Chains {
  const rules: RuleText[] = [];
  for (let at = from; at < to; at++) rules.push(...(all[at]?.rules ?? []));
  rules.push('-j DROP');
  return [[chain, rules]];
}

function sameLeaves(before: readonly Leaf[], all: readonly Leaf[], from: number, to: number): boolean {
  if (before.length !== to - from) return false;
  for (let at = 0; at < before.length; at++) if (before[at] !== all[from + at]) return false;
  return true;
}

/** How many characters both names share at the start. */
function commonPrefix(first: string, last: string): number {
  let length = 0;
  while (length < first.length && first[length] === last[length]) length++;
  return length;
}
