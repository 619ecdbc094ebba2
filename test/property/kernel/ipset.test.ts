import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ActualSet, parseIpsetSave, planSet } from '../../../src/kernel/ipset-plan.ts';
import type { DesiredSet } from '../../../src/kernel/types.ts';
import { cidrOf, type Family, formatIp, octets } from '../../../src/model/address.ts';

/** What `ipset restore -exist` does, as far as the planner's lines go; members printed as ipset prints them. */
class ModelIpset {
  readonly sets = new Map<string, { readonly header: string; readonly members: Set<string> }>();

  restore(lines: readonly string[]): void {
    for (const line of lines) {
      const [command, name = '', word = '', ...rest] = line.split(' ');
      if (command === 'create') {
        if (this.sets.has(name)) throw new Error(`${line}: exists`);
        this.sets.set(name, { header: [word, ...rest].join(' '), members: new Set() });
      } else if (command === 'destroy') {
        if (!this.sets.delete(name)) throw new Error(`${line}: not there`);
      } else if (command === 'swap') {
        const [a, b] = [this.#get(name), this.#get(word)];
        this.sets.set(name, b);
        this.sets.set(word, a);
      } else if (command === 'add') this.#get(name).members.add(printed(word));
      else if (command === 'del') this.#get(name).members.delete(printed(word));
      else throw new Error(line);
    }
  }

  save(): string {
    return [...this.sets]
      .flatMap(([name, { header, members }]) => [
        `create ${name} ${header} bucketsize 12 initval 0x1`,
        ...Array.from(members, (one) => `add ${name} ${one}`),
      ])
      .join('\n');
  }

  #get(name: string) {
    const set = this.sets.get(name);
    if (!set) throw new Error(`no set ${name}`);
    return set;
  }
}

const printed = (member: string) => member.replace(/^([^:,]*)\/32$/, '$1').replace(/\/128$/, '');

const bytes = (family: Family) => fc.uint8Array({ minLength: octets(family), maxLength: octets(family) });
const members = (family: Family, type: DesiredSet['type']) =>
  fc.uniqueArray(
    type === 'hash:net'
      ? fc
          .tuple(bytes(family), fc.constantFrom(0, 1, 8, octets(family) * 8))
          .map(([address, length]) => cidrOf(address, length))
      : fc
          .tuple(bytes(family), fc.constantFrom('tcp', 'udp', 'sctp'), fc.integer({ min: 1, max: 65_535 }))
          .map(([address, protocol, port]) => `${formatIp(address)},${protocol}:${port}`),
    { maxLength: 12 },
  );

const desired: fc.Arbitrary<DesiredSet> = fc
  .tuple(fc.constantFrom<Family>(4, 6), fc.constantFrom<DesiredSet['type']>('hash:net', 'hash:ip,port'))
  .chain(([family, type]) =>
    members(family, type).map((list) => ({ name: `cali${family}0x`, type, family, members: new Set<string>(list) })),
  );

test('the plan makes the set as desired by deltas, reads back as planned, and then plans nothing', () => {
  fc.assert(
    fc.property(fc.array(desired, { minLength: 1, maxLength: 5 }), (states) => {
      const model = new ModelIpset();
      for (const state of states) {
        const before: ActualSet | undefined = parseIpsetSave(model.save()).get(state.name);
        const { lines, after } = planSet(state, before, () => 'cali40.tmp0');
        model.restore(lines);
        const read = parseIpsetSave(model.save()).get(state.name);
        expect(read).toEqual(after);
        expect(planSet(state, read, () => 'cali40.tmp0').lines).toEqual([]);
        if (before?.type === state.type)
          expect(lines).toHaveLength(new Set(before.members).symmetricDifference(after.members).size);
        const wanted = new Set([...state.members].filter((member) => !member.endsWith('/0')));
        expect(wanted.isSubsetOf(after.members)).toBe(true);
      }
    }),
    { numRuns: 1000 },
  );
});
