import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DispatchTree, type Leaf } from '../../../src/policy/render/dispatch.ts';

const leafOf = (name: string): Leaf => ({ name, rules: [`-i ${name} -g to-${name}`] });

/** Few letters and any length, so that names are beginnings of one another and share all but the end. */
const nameOf = fc.stringMatching(/^cali[ab]{0,9}$/);
const states = fc.array(fc.uniqueArray(nameOf, { maxLength: 60 }), { minLength: 1, maxLength: 6 });

/** Where the kernel's walk from the root ends for packets of a device. */
function walk(chains: ReadonlyMap<string, readonly string[]>, device: string): string {
  for (let chain = 'root'; ; ) {
    const hit = (chains.get(chain) ?? []).find((rule) => {
      const wanted = /^-i (\S+)/.exec(rule)?.[1];
      return (
        wanted === undefined || (wanted.endsWith('+') ? device.startsWith(wanted.slice(0, -1)) : wanted === device)
      );
    });
    const target = /-[gj] (\S+)$/.exec(hit ?? '')?.[1] ?? 'nowhere';
    if (!chains.has(target)) return target;
    chain = target;
  }
}

test('whatever was rendered before, the tree is the one of its leaves, and every device gets to its own rules', () => {
  fc.assert(
    fc.property(states, fc.array(nameOf, { maxLength: 20 }), (list, strangers) => {
      const leaves = new Map<string, Leaf>();
      const kept = new DispatchTree('root', '-i');
      for (const names of list) {
        for (const name of names) if (!leaves.has(name)) leaves.set(name, leafOf(name));
        const sorted = names.toSorted().map((name) => leaves.get(name) ?? leafOf(name));
        const chains = kept.render(sorted);
        expect(chains).toEqual(new DispatchTree('root', '-i').render(sorted));
        expect(kept.render(sorted)).toBe(chains);
        const tree = new Map(chains);
        expect(tree.size).toBe(chains.length);
        for (const name of [...names, ...strangers])
          expect(walk(tree, name)).toBe(names.includes(name) ? `to-${name}` : 'DROP');
      }
    }),
  );
});

test('a leaf that comes in changes the chains on its way and no other', () => {
  const names = [...Array(300).keys()].map((n) => `cali${(n * 7919).toString(16).padStart(11, '0')}`);
  const leaves = names.toSorted().map(leafOf);
  const tree = new DispatchTree('root', '-i');
  const before = new Map(tree.render(leaves));
  const more = [...leaves, leafOf('cali00000000abc')].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const after = new Map(tree.render(more));
  const changed = [...after].filter(([name, rules]) => before.get(name) !== rules).map(([name]) => name);
  for (const name of changed.slice(1)) expect('cali00000000abc'.startsWith(name.slice('root-'.length))).toBe(true);
  expect(changed.length).toBeLessThan(6);
  expect(after.size).toBeGreaterThan(30);
});
