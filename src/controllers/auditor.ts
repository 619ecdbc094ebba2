import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Store } from '../datastore/store.ts';
import { type Audit, type Finding, standing } from '../ipam/audit.ts';
import { type Lists, readLists } from '../ipam/audit-index.ts';
import type { Action } from './action.ts';
import { auditNow, collect, type Seen } from './collection.ts';
import type { ControllerMetrics } from './metrics.ts';

/** Between two looks; what is gone at the second was a change under way. */
const secondLookMs = 1000;

export interface AuditorDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: ControllerMetrics;
}

/** The continuous audit of addresses, which only reads, and what it gives to collect. */
export class Auditor {
  #seen: Seen = new Map();
  #told = new Map<string, Finding>();

  constructor(private readonly deps: AuditorDeps) {}

  /**
   * Looks twice where something is found, tells what is new, and returns what is to be freed now.
   * @throws StoreUnavailableError, GoneError
   */
  async look(graceSeconds: number, signal: AbortSignal): Promise<readonly Action[]> {
    const { clock, metrics } = this.deps;
    const { lists, result } = await this.#findings(signal);
    const options = { nowSeconds: clock.monotonic() / 1000, graceSeconds };
    const { actions, seen, waiting } = collect(result.findings, lists, this.#seen, options);
    this.#seen = seen;
    this.#tell(result.findings);
    metrics.audited(lists, result, waiting, clock.wall());
    return actions;
  }

  async #findings(signal: AbortSignal): Promise<{ lists: Lists; result: Audit }> {
    const { store, clock } = this.deps;
    const first = await readLists(store);
    const result = auditNow(first, clock.wall());
    if (result.findings.length === 0) return { lists: first, result };
    await pause(clock, secondLookMs, signal);
    const lists = await readLists(store);
    return { lists, result: standing(result, auditNow(lists, clock.wall())) };
  }

  /** A line for each finding when it comes, and one when it goes. */
  #tell(findings: readonly Finding[]): void {
    const now = new Map(findings.map((finding) => [`${finding.problem} ${finding.subject}`, finding]));
    for (const [id, { problem, subject, node, detail, repair }] of now)
      if (!this.#told.has(id)) this.deps.log.warn({ problem, subject, node, detail, repair }, 'the audit found');
    for (const [id, { problem, subject }] of this.#told)
      if (!now.has(id)) this.deps.log.info({ problem, subject }, 'no longer found by the audit');
    this.#told = now;
  }
}
