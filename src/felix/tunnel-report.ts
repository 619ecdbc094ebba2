import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Store } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import { type KernelTunnel, kernelTunnels, lackAnnotations } from './calc/tunnels.ts';

export interface TunnelReportOptions {
  readonly store: Store;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tells the other nodes by annotations of the Node (`margay.io/ipip: unavailable`, `margay.io/vxlan: unavailable`) what
 * this one's kernel has not: they then send by the fallback that a pool names, or keep sending what is lost here.
 */
export class TunnelReport {
  readonly #changed: Trigger;
  #lacking: ReadonlySet<string> | undefined;

  constructor(private readonly options: TunnelReportOptions) {
    this.#changed = new Trigger(options.clock);
  }

  /** Takes a syncer's update: somebody else may write the Node. */
  consume(update: Update): void {
    const { node } = this.options;
    if (update.op !== 'events') return;
    for (const event of update.events) {
      const key = event.op === 'delete' ? event.key : event.entry.key;
      if (key.type === 'Node' && key.name === node) this.#changed.fire();
    }
  }

  /** @param lacking kinds of tunnels; those that are no business of other nodes are left out */
  lacks(lacking: ReadonlySet<string>): void {
    this.#lacking = lacking;
    this.#changed.fire();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, node } = this.options;
    const backoff = new Backoff(100, 30_000);
    let retryMs: number | undefined;
    while (!signal.aborted) {
      await this.#changed.wait(retryMs, signal);
      if (signal.aborted) return;
      try {
        await this.#write();
        retryMs = undefined;
        backoff.reset();
      } catch (thrown) {
        if (signal.aborted) return;
        retryMs = backoff.next();
        log.warn(
          { node, error: explain(thrown), retryMs },
          'the Node does not tell yet what tunnels the kernel lacks; will retry',
        );
      }
    }
  }

  async #write(): Promise<void> {
    const { store, node } = this.options;
    if (this.#lacking === undefined) return;
    const found = await store.get({ type: 'Node', name: node });
    // Without one, its event comes back here when it is written.
    if (!found) return;
    const before = found.value.metadata.annotations ?? {};
    const now = annotationsFor(before, this.#lacking);
    if (kernelTunnels.every((kind) => before[lackAnnotations[kind]] === now[lackAnnotations[kind]])) return;
    const value = { ...found.value, metadata: { ...found.value.metadata, annotations: now } };
    const { outcome } = await store.update(found.key, value, found.revision);
    if (outcome !== 'written') throw new Error(`the Node resource changed meanwhile (${outcome})`);
  }
}

function annotationsFor(
  before: Readonly<Record<string, string>>,
  lacking: ReadonlySet<string>,
): Readonly<Record<string, string>> {
  const ours = new Set(Object.values(lackAnnotations));
  const others = Object.entries(before).filter(([name]) => !ours.has(name));
  const lacks = kernelTunnels.filter((kind: KernelTunnel) => lacking.has(kind));
  return Object.fromEntries([...others, ...lacks.map((kind) => [lackAnnotations[kind], 'unavailable'] as const)]);
}
