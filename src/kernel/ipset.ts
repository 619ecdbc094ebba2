import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { counted, type KernelCalls, startedOf } from './calls.ts';
import { type Launch, runCommand } from './command.ts';
import type { IpsetMembers, MemberChange } from './ipset-netlink.ts';
import { type ActualSet, parseIpsetSave, planSet, spareName } from './ipset-plan.ts';
import { Serial } from './serial.ts';
import { type DesiredSet, IpsetError, type Ipsets } from './types.ts';

export interface IpsetOptions extends Launch {
  readonly log: Log;
  readonly calls?: KernelCalls;
  /** By which members of sets that are there change; without it, as everything else, by the program. */
  readonly members?: IpsetMembers;
}

/**
 * Our IP sets. Goals: one process for all changes of an apply, and none without a change or where only members change; only the members that changed;
 * one bad set does not stop the others. Applies are put one after the other.
 */
export function createIpsets(options: IpsetOptions): Ipsets {
  return new RestoreDriver(options);
}

/** The lines for one set, and what the set then is; undefined: gone. */
interface Change {
  readonly name: string;
  readonly lines: readonly string[];
  readonly after: ActualSet | undefined;
}

class RestoreDriver implements Ipsets {
  readonly #serial = new Serial();
  /** What is believed of the kernel; undefined: unknown. */
  #actual: Map<string, ActualSet> | undefined;
  /** The `members` of a set as last applied: the same object again means no change. */
  readonly #applied = new Map<string, ReadonlySet<string>>();
  #doubts = 0;

  constructor(private readonly options: IpsetOptions) {}

  applyUpdates(desired: ReadonlyMap<string, DesiredSet>): Promise<void> {
    return this.#serial.run(async () => {
      const failed = new Map<string, string>();
      const plan = (actual: ReadonlyMap<string, ActualSet>) => this.#planUpdates(desired, actual, failed);
      await this.#applyAll(plan, failed);
      for (const [name, set] of desired) if (!failed.has(name) && this.#actual) this.#applied.set(name, set.members);
      if (failed.size > 0) throw new IpsetError(failed);
    });
  }

  applyDeletions(desired: ReadonlyMap<string, DesiredSet>): Promise<void> {
    return this.#serial.run(async () => {
      const failed = new Map<string, string>();
      const plan = (actual: ReadonlyMap<string, ActualSet>) =>
        [...actual.keys()]
          .filter((name) => !desired.has(name) && !failed.has(name))
          .map((name): Change => ({ name, lines: [`destroy ${name}`], after: undefined }));
      await this.#applyAll(plan, failed);
      if (failed.size > 0) throw new IpsetError(failed);
    });
  }

  invalidate(): void {
    this.#actual = undefined;
    this.#applied.clear();
    this.#doubts++;
  }

  #planUpdates(
    desired: ReadonlyMap<string, DesiredSet>,
    actual: ReadonlyMap<string, ActualSet>,
    failed: Map<string, string>,
  ): Change[] {
    const taken = new Set(actual.keys());
    const changes: Change[] = [];
    for (const [name, set] of desired) {
      if (failed.has(name) || (actual.has(name) && this.#applied.get(name) === set.members)) continue;
      try {
        const { lines, after } = planSet(set, actual.get(name), () => spareName(set.family, taken));
        if (lines.length > 0) changes.push({ name, lines, after });
      } catch (cause) {
        if (!(cause instanceof InputError)) throw cause;
        failed.set(name, cause.message);
      }
    }
    return changes;
  }

  /**
   * Runs the plan in one restore. When a line is refused its set is put aside, and the rest is planned afresh from what
   * is then in the kernel: ipset may or may not have sent the lines before it. Every round puts one set aside.
   */
  async #applyAll(plan: (actual: ReadonlyMap<string, ActualSet>) => Change[], failed: Map<string, string>) {
    for (let believed = this.#actual !== undefined; ; believed = false) {
      const doubts = this.#doubts;
      const actual = this.#actual ?? (await this.#read());
      this.#actual = undefined;
      const changes = plan(actual);
      const refused = changes.length === 0 ? undefined : await this.#restore(changes);
      if (!refused) {
        for (const { name, after } of changes) {
          if (after) actual.set(name, after);
          else {
            actual.delete(name);
            this.#applied.delete(name);
          }
        }
        if (doubts === this.#doubts) this.#actual = actual;
        return;
      }
      this.#applied.clear();
      this.options.log.warn({ set: refused.name, reason: refused.reason }, 'ipset refused a change; reading again');
      // What was believed may have been stale: only a refusal after a fresh reading counts against the set.
      if (!believed) failed.set(refused.name, refused.reason);
    }
  }

  async #restore(changes: readonly Change[]): Promise<{ name: string; reason: string } | undefined> {
    if (this.#changedMembers(changes)) return undefined;
    const lines = changes.flatMap((change) => change.lines);
    if (this.options.calls) this.options.calls.ipsetLines += lines.length;
    const { status, stderr } = await this.#run(['ipset', 'restore', '-exist'], `${lines.join('\n')}\n`);
    if (status === 0) return undefined;
    const reason = stderr.trim() || `ipset restore: status ${status}`;
    const number = Number(/line (\d+)/.exec(stderr)?.[1]);
    let end = 0;
    const culprit = changes.find((change) => {
      end += change.lines.length;
      return number <= end;
    });
    if (!culprit) throw new IpsetError(new Map(changes.map(({ name }) => [name, reason])));
    return { name: culprit.name, reason: `${reason}: ${lines[number - 1]}` };
  }

  /** Members only, without the program. @returns false when the program has to do it, or to say what is wrong */
  #changedMembers(changes: readonly Change[]): boolean {
    const { members, log } = this.options;
    if (!members) return false;
    const wanted: MemberChange[] = [];
    for (const { lines, after } of changes)
      for (const line of lines) {
        const [op, set = '', member = ''] = line.split(' ');
        if (!after || (op !== 'add' && op !== 'del')) return false;
        wanted.push({ op, set, family: after.family, member });
      }
    const refusal = members.change(wanted);
    if (refusal) log.debug({ error: refusal.message }, 'a member was refused; the ipset program tries again');
    return refusal === undefined;
  }

  async #read(): Promise<Map<string, ActualSet>> {
    const { status, stdout, stderr } = await this.#run(['ipset', 'save']);
    if (status !== 0) throw new Error(`ipset save: ${stderr.trim() || `status ${status}`}`);
    return parseIpsetSave(stdout);
  }

  #run(command: readonly string[], input = '') {
    const { launcher, calls } = this.options;
    const options = {
      input,
      package: 'ipset',
      timeoutSeconds: 120,
      ...(launcher && { launcher }),
      ...(calls && { started: startedOf(calls) }),
    };
    return counted(calls?.ipset, () => runCommand(command, options));
  }
}
