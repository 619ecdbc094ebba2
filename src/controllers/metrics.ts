import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { type Audit, problems } from '../ipam/audit.ts';
import { heldIn, type Lists, ownerOf } from '../ipam/audit-index.ts';
import { poolUsage } from '../ipam/audit-usage.ts';
import { poolOf } from '../ipam/pools.ts';
import type { Reason } from './action.ts';

/** Address figures of one pool and node. */
export interface NodeUsage {
  readonly pool: string;
  readonly node: string;
  readonly blocks: number;
  readonly used: number;
  readonly borrowed: number;
}

/** Blocks by their owner, addresses by the node that holds them; pool `no_ippool` where none covers them. Pure. */
export function usageByNode(lists: Lists): NodeUsage[] {
  const pools = lists.pools.entries.map(({ value }) => value);
  const found = new Map<string, { pool: string; node: string; blocks: number; used: number; borrowed: number }>();
  const at = (pool: string, node: string) => {
    const key = JSON.stringify([pool, node]);
    const usage = found.get(key) ?? { pool, node, blocks: 0, used: 0, borrowed: 0 };
    found.set(key, usage);
    return usage;
  };
  for (const { value: block } of lists.blocks.entries) {
    const pool = poolOf(pools, block.cidr)?.metadata.name ?? 'no_ippool';
    const owner = ownerOf(block);
    at(pool, owner ?? 'no_affinity').blocks++;
    for (const { attributes } of heldIn(block)) {
      const node = attributes['node'] ?? 'unknown_node';
      const usage = at(pool, node);
      usage.used++;
      if (attributes['node'] !== undefined && node !== owner) usage.borrowed++;
    }
  }
  return [...found.values()];
}

/** Calico's names for addresses, and our own for what the controllers find and do. */
export class ControllerMetrics {
  readonly registry = new Registry();
  readonly #reclaimed: Counter;
  readonly #actions: Counter;
  readonly #leader: Gauge;
  readonly #findings: Gauge;
  readonly #audited: Gauge;
  readonly #usage: Readonly<Record<'used' | 'borrowed' | 'blocks', Gauge>>;
  readonly #candidates: Gauge;
  readonly #perNode: Gauge;
  readonly #poolSize: Gauge;

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    const byNode = ['ippool', 'node'];
    this.#usage = {
      used: this.#gauge('ipam_allocations_in_use', 'Addresses that are held.', byNode),
      borrowed: this.#gauge('ipam_allocations_borrowed', "Addresses held in another node's block.", byNode),
      blocks: this.#gauge('ipam_blocks', 'Blocks of addresses.', byNode),
    };
    this.#candidates = this.#gauge('ipam_allocations_gc_candidates', 'Lost addresses in their grace period.', ['node']);
    this.#perNode = this.#gauge('ipam_allocations_per_node', 'Addresses that are held.', ['node']);
    this.#poolSize = this.#gauge('ipam_ippool_size', 'Addresses of a pool.', ['ippool']);
    this.#findings = this.#gauge('margay_ipam_findings', 'What the audit of addresses finds wrong.', ['problem']);
    this.#audited = this.#gauge('margay_ipam_audit_timestamp_seconds', 'When addresses were audited last.', []);
    this.#leader = this.#gauge('margay_controllers_leader', 'Whether this process is the one that acts.', []);
    this.#reclaimed = this.#counter('ipam_allocations_gc_reclamations', 'Lost addresses that were freed.', ['node']);
    this.#actions = this.#counter('margay_controllers_actions_total', 'What was done.', ['reason', 'outcome']);
    this.#leader.set(0);
  }

  leads(leads: boolean): void {
    this.#leader.set(leads ? 1 : 0);
    // Another one counts from here on.
    if (!leads) for (const gauge of this.#ofAudits()) gauge.reset();
  }

  acted(reason: Reason, outcome: 'done' | 'void' | 'failed'): void {
    this.#actions.inc({ reason, outcome });
  }

  reclaimed(node: string): void {
    this.#reclaimed.inc({ node });
  }

  audited(lists: Lists, { findings }: Audit, waiting: ReadonlyMap<string, number>, now: Date): void {
    for (const gauge of this.#ofAudits()) gauge.reset();
    const perNode = new Map<string, number>();
    for (const { pool: ippool, node, ...usage } of usageByNode(lists)) {
      for (const name of ['used', 'borrowed', 'blocks'] as const) this.#usage[name].set({ ippool, node }, usage[name]);
      perNode.set(node, (perNode.get(node) ?? 0) + usage.used);
    }
    for (const [node, count] of perNode) this.#perNode.set({ node }, count);
    for (const { pool: ippool, total } of poolUsage(lists)) this.#poolSize.set({ ippool }, Number(total));
    for (const [node, count] of waiting) this.#candidates.set({ node }, count);
    for (const problem of problems)
      this.#findings.set({ problem }, findings.filter((finding) => finding.problem === problem).length);
    this.#audited.set(now.getTime() / 1000);
  }

  #ofAudits(): Gauge[] {
    return [...Object.values(this.#usage), this.#candidates, this.#perNode, this.#poolSize, this.#findings];
  }

  #gauge(name: string, help: string, labelNames: string[]): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }
}
