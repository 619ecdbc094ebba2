import type { RuleText } from '../../kernel/types.ts';
import { chainName } from './names.ts';

/** A chain this short is walked as a list. */
const shortList = 8;

/**
 * A tree of chains that leads from an interface to its own chain in few steps: by the next character of the name,
 * level by level, until few are left. Whatever matches no branch is dropped: an interface that nobody knows yet.
 * @param root name of the first chain
 * @param flag `-i` or `-o`
 * @param target the chain of an interface
 */
export function dispatchTree(
  root: string,
  flag: '-i' | '-o',
  interfaces: readonly string[],
  target: (name: string) => string,
): Map<string, readonly RuleText[]> {
  const chains = new Map<string, readonly RuleText[]>();
  const leaf = (name: string) => `${flag} ${name} -g ${target(name)}`;
  const build = (chain: string, names: readonly string[]) => {
    if (names.length <= shortList) {
      chains.set(chain, [...names.map(leaf), '-j DROP']);
      return;
    }
    const depth = commonPrefix(names) + 1;
    const rules: RuleText[] = [];
    // A whole name sorts before the longer ones that begin with it, so that it is tried before their branch.
    for (const [prefix, group] of Map.groupBy(names, (name) => name.slice(0, depth))) {
      const only = group[0];
      if (group.length === 1 && only !== undefined) {
        rules.push(leaf(only));
        continue;
      }
      const child = chainName(`${root}-`, prefix);
      rules.push(`${flag} ${prefix}+ -g ${child}`);
      build(child, group);
    }
    chains.set(chain, [...rules, '-j DROP']);
  };
  build(root, interfaces.toSorted());
  return chains;
}

/** How many characters all the sorted names share at the start. */
function commonPrefix(names: readonly string[]): number {
  const first = names[0] ?? '';
  const last = names.at(-1) ?? '';
  let length = 0;
  while (length < first.length && first[length] === last[length]) length++;
  return length;
}
