import { setImmediate } from 'node:timers/promises';
import { errorCode } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Family } from '../../model/address.ts';
import { counted, type KernelCalls, startedOf } from '../calls.ts';
import { type Launch, runCommand } from '../command.ts';
import { Serial } from '../serial.ts';
import { type DesiredTable, type Iptables, IptablesError, type TableName } from '../types.ts';
import type { Backend } from './backend.ts';
import { planTable, type TablePlan } from './plan.ts';
import { type TaggedTable, tagTable } from './rules.ts';
import { type ActualTable, emptyTable, parseSave } from './save.ts';
import { RestoreSession, type SessionResult } from './session.ts';

export interface IptablesOptions extends Launch {
  readonly family: Family;
  readonly backend: Backend;
  readonly log: Log;
  readonly calls?: KernelCalls;
  /** How long iptables-restore waits for the xtables lock (legacy only; nft has none): 1 or more, 10 by default. */
  readonly lockWaitSeconds?: number;
}

/**
 * Our chains in one family's tables. Goals: one process for an apply that changes something, none for one that does
 * not; all of a table in one commit; other software's rules untouched; what is in the kernel stays when a change is
 * refused. Applies are put one after the other.
 */
export function createIptables(options: IptablesOptions): Iptables {
  return new RestoreDriver(options);
}

/** How long a restore program waits for the next change before it ends. */
const idleSeconds = 10;

/** Exit status of the legacy programs without the lock or memory (xtables.h). */
const RESOURCE_PROBLEM = 4;

/** Exit status of stdbuf, env and shells for a program that is not there. */
const NOT_FOUND = 127;

type Tagged = ReadonlyMap<TableName, TaggedTable>;

class RestoreDriver implements Iptables {
  readonly #serial = new Serial();
  readonly #program: string;
  /** What is believed of the kernel; undefined: unknown. */
  #actual: Map<string, ActualTable> | undefined;
  /** Counts invalidations, so that one which comes during an apply is not lost. */
  #doubts = 0;
  /** nft only: the legacy program ends at once. */
  #session: RestoreSession | undefined;

  constructor(private readonly options: IptablesOptions) {
    this.#program = `ip${options.family === 6 ? '6' : ''}tables-${options.backend}`;
    if (options.backend === 'nft') {
      const { launcher, calls } = options;
      const command = [`${this.#program}-restore`, '--noflush', '--verbose'];
      const timeoutSeconds = this.#lockWait + 60;
      this.#session = new RestoreSession({
        command,
        timeoutSeconds,
        idleSeconds,
        ...(launcher && { launcher }),
        ...(calls && { started: startedOf(calls) }),
      });
    }
  }

  apply(desired: ReadonlyMap<TableName, DesiredTable>): Promise<{ changedChains: number }> {
    return this.#serial.run(async () => {
      const tagged = new Map([...desired].map(([name, table]) => [name, tagTable(name, table)]));
      // With many rules each takes long: tagging, and the start of the program that reads.
      if (this.#actual === undefined) await setImmediate();
      return { changedChains: await this.#applyTagged(tagged) };
    });
  }

  invalidate(): void {
    this.#actual = undefined;
    this.#doubts++;
  }

  async #applyTagged(tables: Tagged): Promise<number> {
    const believed = this.#actual !== undefined;
    try {
      return await this.#commit(tables);
    } catch (cause) {
      if (!(cause instanceof IptablesError) || cause.locked || (!believed && tables.size === 1)) throw cause;
      this.options.log.warn({ err: cause }, 'iptables-restore refused a change; reading again, then table by table');
    }
    return this.#applyEach(tables);
  }

  /** From a fresh reading, and each table by itself: one that is refused does not hold up the others. */
  async #applyEach(tables: Tagged): Promise<number> {
    const failures: IptablesError[] = [];
    let changed = 0;
    for (const [name, table] of tables)
      try {
        changed += await this.#commit(new Map([[name, table]]));
      } catch (cause) {
        if (!(cause instanceof IptablesError) || cause.locked) throw cause;
        failures.push(cause);
      }
    const [first] = failures;
    if (!first) return changed;
    throw new IptablesError(failures.map((failure) => failure.message).join('; '), first.line);
  }

  /** One restore for all the tables, if any of them differs. */
  async #commit(tables: Tagged): Promise<number> {
    const doubts = this.#doubts;
    const actual = this.#actual ?? (await this.#read());
    this.#actual = undefined;
    const style = this.options.backend === 'legacy' ? 'edit' : 'rewrite';
    const plans = new Map<TableName, TablePlan>();
    for (const [name, table] of tables) {
      const plan = planTable(table, actual.get(name) ?? emptyTable, style);
      if (plan.lines.length > 0) plans.set(name, plan);
    }
    if (plans.size > 0)
      await this.#restore([...plans].flatMap(([name, { lines }]) => [`*${name}`, ...lines, 'COMMIT']));
    for (const [name, { lines }] of plans) this.#countLines(name, lines.length);
    let changed = 0;
    for (const [name, plan] of plans) {
      actual.set(name, plan.after);
      changed += plan.changedChains;
    }
    if (doubts === this.#doubts) this.#actual = actual;
    return changed;
  }

  #countLines(table: TableName, count: number): void {
    const { calls, family } = this.options;
    const key = `${family} ${table}`;
    calls?.lines.set(key, (calls.lines.get(key) ?? 0) + count);
  }

  async #read(): Promise<Map<string, ActualTable>> {
    const program = `${this.#program}-save`;
    const { status, stdout, stderr } = await counted(this.options.calls?.save, () => this.#run([program]));
    if (status !== 0) throw new IptablesError(`${program}: ${stderr.trim() || `status ${status}`}`);
    return parseSave(stdout);
  }

  async #restore(lines: readonly string[]): Promise<void> {
    const program = `${this.#program}-restore`;
    const legacy = this.options.backend === 'legacy';
    const { status, stderr, linesBefore } = await counted(this.options.calls?.restore, () =>
      this.#send(program, lines),
    );
    if (status === 0) return;
    const number = /line:? (\d+)/i.exec(stderr)?.[1];
    const named = number === undefined ? undefined : lines[Number(number) - linesBefore - 1];
    // A commit that fails names the line of COMMIT, which says nothing.
    const line = named === 'COMMIT' ? undefined : named;
    const said = stderr.replace(/\nTry `.*/s, '').trim() || `status ${status}`;
    const locked = legacy && status === RESOURCE_PROBLEM;
    throw new IptablesError(`${program}: ${said}${line === undefined ? '' : `: ${line}`}`, line, locked);
  }

  async #send(program: string, lines: readonly string[]): Promise<SessionResult> {
    const result = await this.#converse(lines);
    if (result) return result;
    // Without a number, and with 0, it would wait for ever.
    const wait = this.options.backend === 'legacy' ? ['-w', String(this.#lockWait)] : [];
    const alone = await this.#run([program, '--noflush', ...wait], `${lines.join('\n')}\n`);
    return { ...alone, linesBefore: 0 };
  }

  /** Undefined without a session: each change is then a process of its own. */
  async #converse(lines: readonly string[]): Promise<SessionResult | undefined> {
    if (!this.#session) return undefined;
    try {
      const result = await this.#session.run(lines);
      if (result.status !== NOT_FOUND) return result;
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw cause;
    }
    this.options.log.info('iptables-restore cannot be kept running without stdbuf (coreutils)');
    this.#session = undefined;
    return undefined;
  }

  get #lockWait(): number {
    return Math.max(1, Math.ceil(this.options.lockWaitSeconds ?? 10));
  }

  #run(command: readonly string[], input = '') {
    const { launcher, calls } = this.options;
    const timeoutSeconds = this.#lockWait + 60;
    return runCommand(command, {
      input,
      package: 'iptables',
      timeoutSeconds,
      ...(launcher && { launcher }),
      ...(calls && { started: startedOf(calls) }),
    });
  }
}
