import type { DesiredSet, DesiredTable, Ipsets, Iptables, TableName } from './types.ts';

/* The firewall of the in-memory kernel, see fake.ts. */

/** Keeps what was applied; `fail` makes the next applies reject. */
export class FakeIptables implements Iptables {
  tables: ReadonlyMap<TableName, DesiredTable> = new Map();
  applies = 0;
  invalidations = 0;
  fail: Error | undefined;

  async apply(desired: ReadonlyMap<TableName, DesiredTable>): Promise<{ changedChains: number }> {
    this.applies++;
    if (this.fail) throw this.fail;
    const changedChains = [...desired].reduce((sum, [name, table]) => sum + changes(this.tables.get(name), table), 0);
    this.tables = new Map([...this.tables, ...desired]);
    return { changedChains };
  }

  invalidate(): void {
    this.invalidations++;
  }
}

/** Keeps the sets; `fail` makes the next calls reject. */
export class FakeIpsets implements Ipsets {
  readonly sets = new Map<string, DesiredSet>();
  /** In order: `update cali40x`, `delete cali40x`. */
  readonly calls: string[] = [];
  invalidations = 0;
  fail: Error | undefined;

  async applyUpdates(desired: ReadonlyMap<string, DesiredSet>): Promise<void> {
    if (this.fail) throw this.fail;
    for (const [name, set] of desired) {
      const before = this.sets.get(name);
      if (before && before.type === set.type && same(before.members, set.members)) continue;
      this.calls.push(`update ${name}`);
      this.sets.set(name, { ...set, members: new Set(set.members) });
    }
  }

  async applyDeletions(desired: ReadonlyMap<string, DesiredSet>): Promise<void> {
    if (this.fail) throw this.fail;
    for (const name of [...this.sets.keys()].filter((one) => !desired.has(one))) {
      this.calls.push(`delete ${name}`);
      this.sets.delete(name);
    }
  }

  invalidate(): void {
    this.invalidations++;
  }
}

function same(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((one) => b.has(one));
}

function changes(before: DesiredTable | undefined, after: DesiredTable): number {
  const flat = (table: DesiredTable | undefined) =>
    new Map(
      [table?.chains, table?.insertions, table?.appendices].flatMap((chains, kind) =>
        [...(chains ?? [])].map(([name, rules]) => [`${kind} ${name}`, rules.join('\n')] as const),
      ),
    );
  const [old, now] = [flat(before), flat(after)];
  const names = new Set([...old.keys(), ...now.keys()]);
  return [...names].filter((name) => old.get(name) !== now.get(name)).length;
}
