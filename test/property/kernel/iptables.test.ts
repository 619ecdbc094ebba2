import fc from 'fast-check';
import { expect, test } from 'vitest';
import { editChain } from '../../../src/kernel/iptables/edit.ts';
import { planTable, type Style } from '../../../src/kernel/iptables/plan.ts';
import { isOurs, ourTarget, ruleHash, type TaggedRule, tagTable } from '../../../src/kernel/iptables/rules.ts';
import { type ActualTable, emptyTable, parseSave } from '../../../src/kernel/iptables/save.ts';
import type { DesiredTable, RuleText } from '../../../src/kernel/types.ts';

/** What iptables-restore --noflush does to one table, as far as the planner's lines go. It refuses what iptables would. */
class ModelTable {
  readonly chains = new Map<string, string[]>();

  constructor(readonly builtin: readonly string[]) {
    for (const name of builtin) this.chains.set(name, []);
  }

  restore(lines: readonly string[]): void {
    for (const line of lines) this.#line(line);
    for (const [name, rules] of this.chains)
      for (const rule of rules) {
        const target = ourTarget(rule);
        if (target !== undefined && !this.chains.has(target)) throw new Error(`${name} refers to ${target}`);
      }
  }

  save(): string {
    const names = [...this.chains.keys()];
    return [
      '*filter',
      ...names.map((name) => `:${name} ${this.builtin.includes(name) ? 'ACCEPT' : '-'} [0:0]`),
      ...names.flatMap((name) => this.rules(name).map((rule) => `-A ${name} ${rule}`)),
      'COMMIT',
      '',
    ].join('\n');
  }

  read(): ActualTable {
    return parseSave(this.save()).get('filter') ?? emptyTable;
  }

  rules(name: string): string[] {
    const rules = this.chains.get(name);
    if (!rules) throw new Error(`no chain ${name}`);
    return rules;
  }

  #line(line: string): void {
    if (line.startsWith(':')) {
      const name = line.slice(1).split(' ')[0] ?? '';
      if (this.builtin.includes(name)) throw new Error(`policy of ${name} touched`);
      this.chains.set(name, []);
      return;
    }
    const [command = '', chain = '', ...words] = line.split(' ');
    const rules = this.rules(chain);
    const number = /^\d+$/.test(words[0] ?? '') ? Number(words.shift()) : undefined;
    const text = words.join(' ');
    const most = command === '-I' ? rules.length + 1 : rules.length;
    if (number !== undefined && (number < 1 || number > most)) throw new Error(`${line}: ${rules.length} rules`);
    if (command === '-A') rules.push(text);
    else if (command === '-I') rules.splice((number ?? 1) - 1, 0, text);
    else if (command === '-R' && number) rules[number - 1] = text;
    else if (command === '-D') {
      const at = number === undefined ? rules.indexOf(text) : number - 1;
      if (at < 0) throw new Error(`${line}: no such rule`);
      rules.splice(at, 1);
    } else if (command === '-X') this.#drop(chain, rules);
    else throw new Error(line);
  }

  #drop(chain: string, rules: string[]): void {
    const users = [...this.chains].filter(([, list]) => list.some((rule) => ourTarget(rule) === chain));
    if (rules.length > 0 || users.length > 0) throw new Error(`-X ${chain}: in use`);
    this.chains.delete(chain);
  }
}

const names = ['cali-a', 'cali-b', 'cali-c', 'cali-d'];
const kernelChains = ['INPUT', 'FORWARD', 'OUTPUT'];
const plain = fc.constantFrom(
  '-j ACCEPT',
  '-j DROP',
  '-p tcp -j ACCEPT',
  '-p udp -j ACCEPT',
  '-s 10.0.0.0/8 -j RETURN',
  '-j RETURN',
);
const foreignRule = fc.constantFrom(
  '-s 192.0.2.0/24 -j ACCEPT',
  '-m comment --comment "kube -j cali-x" -j KUBE',
  '-j DROP',
);

const desired: fc.Arbitrary<DesiredTable> = fc
  .uniqueArray(fc.constantFrom(...names), { minLength: 1 })
  .chain((chains) => {
    const rule: fc.Arbitrary<RuleText> = fc.oneof(
      { weight: 4, arbitrary: plain },
      fc.constantFrom(...chains).map((name) => `-j ${name}`),
    );
    const rules = fc.array(rule, { maxLength: 8 });
    const inKernel = fc.uniqueArray(fc.tuple(fc.constantFrom(...kernelChains), fc.array(rule, { maxLength: 3 })), {
      selector: ([name]) => name,
    });
    return fc.record({
      chains: fc
        .tuple(...chains.map(() => rules))
        .map((lists) => new Map(chains.map((name, at) => [name, lists[at] ?? []]))),
      insertions: inKernel.map((list) => new Map(list)),
      appendices: inKernel.map((list) => new Map(list)),
    });
  });

type Damage = {
  readonly what: 'drop' | 'foreign' | 'stray' | 'duplicate';
  readonly chain: number;
  readonly at: number;
  readonly rule: string;
};
const damage: fc.Arbitrary<Damage> = fc.record({
  what: fc.constantFrom('drop', 'foreign', 'stray', 'duplicate'),
  chain: fc.nat(10),
  at: fc.nat(10),
  rule: foreignRule,
});

function harm(model: ModelTable, { what, chain, at, rule }: Damage): void {
  const all = [...model.chains.keys()];
  const name = all[chain % all.length] ?? '';
  const rules = model.rules(name);
  const place = at % (rules.length + 1);
  const victim = rules[place];
  const ours = isOurs(name) || (victim !== undefined && (victim.includes('"cali:') || ourTarget(victim) !== undefined));
  if (what === 'drop' && ours) rules.splice(place, 1);
  if (what === 'foreign') rules.splice(place, 0, rule);
  if (what === 'stray') model.rules('OUTPUT').push('-j cali-a');
  if (what === 'duplicate' && victim !== undefined && ours) rules.splice(at % rules.length, 0, victim);
}

const foreignOf = (model: ModelTable) =>
  model.builtin.map((name) =>
    model.rules(name).filter((rule) => !rule.includes('"cali:') && ourTarget(rule) === undefined),
  );

function expectDesired(model: ModelTable, table: DesiredTable): void {
  const tagged = tagTable('filter', table);
  const text = (list: readonly TaggedRule[] | undefined) => (list ?? []).map((rule) => rule.text);
  const ours = new Map([...model.chains].filter(([name]) => isOurs(name)));
  expect(ours).toEqual(new Map([...tagged.chains].map(([name, { rules }]) => [name, text(rules)])));
  for (const [at, name] of model.builtin.entries())
    expect(model.rules(name)).toEqual([
      ...text(tagged.insertions.get(name)?.rules),
      ...(foreignOf(model)[at] ?? []),
      ...text(tagged.appendices.get(name)?.rules),
    ]);
}

const style = fc.constantFrom<Style>('edit', 'rewrite');

test('whatever was there, the plan makes the table as desired, leaves foreign rules, and then plans nothing', () => {
  fc.assert(
    fc.property(style, desired, fc.array(damage, { maxLength: 8 }), desired, (how, before, harms, after) => {
      const model = new ModelTable(kernelChains);
      for (const name of kernelChains) model.rules(name).push('-s 198.51.100.0/24 -j ACCEPT', '-j DROP');
      model.restore(planTable(tagTable('filter', before), model.read(), how).lines);
      for (const one of harms) if (one.what !== 'stray' || model.chains.has('cali-a')) harm(model, one);
      const foreign = foreignOf(model);
      const plan = planTable(tagTable('filter', after), model.read(), how);
      model.restore(plan.lines);
      expectDesired(model, after);
      expect(foreignOf(model)).toEqual(foreign);
      expect(plan.changedChains > 0).toBe(plan.lines.length > 0);
      expect(planTable(tagTable('filter', after), model.read(), how).lines).toEqual([]);
    }),
    { numRuns: 2000 },
  );
});

test('plans that go on from what the last one left need no reading', () => {
  fc.assert(
    fc.property(style, fc.array(desired, { minLength: 1, maxLength: 5 }), (how, states) => {
      const model = new ModelTable(kernelChains);
      for (const name of kernelChains) model.rules(name).push('-j DROP');
      let actual = emptyTable;
      for (const state of states) {
        const plan = planTable(tagTable('filter', state), actual, how);
        model.restore(plan.lines);
        expectDesired(model, state);
        actual = plan.after;
        expect(planTable(tagTable('filter', state), actual, how).lines).toEqual([]);
      }
    }),
    { numRuns: 500 },
  );
});

test('an edited chain keeps a longest common run of rules in place', () => {
  const list = fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), { maxLength: 14 });
  fc.assert(
    fc.property(list, list, (have, wanted) => {
      const want = wanted.map((rule) => ({ hash: rule, text: rule }));
      const model = new ModelTable([]);
      model.chains.set('cali-x', [...have]);
      const lines = editChain('cali-x', have, want);
      model.restore(lines);
      expect(model.rules('cali-x')).toEqual(wanted);
      const common = lcs(have, wanted);
      expect(lines.length).toBeLessThanOrEqual(have.length + wanted.length - 2 * common);
      expect(lines.length).toBeGreaterThanOrEqual(Math.max(have.length, wanted.length) - common);
    }),
    { numRuns: 2000 },
  );
});

test('a long chain that changed throughout is still edited right', () => {
  const have = Array.from({ length: 800 }, (_, at) => `old${at}`);
  const want = Array.from({ length: 700 }, (_, at) => ({ hash: `new${at}`, text: `new${at}` }));
  const model = new ModelTable([]);
  model.chains.set('cali-x', [...have]);
  model.restore(editChain('cali-x', have, want));
  expect(model.rules('cali-x')).toEqual(want.map((rule) => rule.text));
});

test('hashes are 16 characters, differ with chain and text, and never change', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      expect(ruleHash('cali-a', a)).toMatch(/^[\w-]{16}$/);
      if (a !== b) expect(ruleHash('cali-a', a)).not.toBe(ruleHash('cali-a', b));
    }),
  );
  expect(ruleHash('cali-a', '-j DROP')).not.toBe(ruleHash('cali-b', '-j DROP'));
  expect(ruleHash('cali-FORWARD', '-i cali+ -j cali-from-wl-dispatch')).toBe('IhgOJ8aOaF7nqOuS');
});

function lcs(a: readonly string[], b: readonly string[]): number {
  const row = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    let diagonal = 0;
    for (const [j, y] of b.entries()) {
      const above = row[j + 1] ?? 0;
      row[j + 1] = x === y ? diagonal + 1 : Math.max(above, row[j] ?? 0);
      diagonal = above;
    }
  }
  return row[b.length] ?? 0;
}
