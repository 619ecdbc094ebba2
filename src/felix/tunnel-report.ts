import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Store } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import { ipipAnnotation } from './calc/tunnels.ts';

export interface TunnelReportOptions {
  readonly store: Store;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tells the other nodes by an annotation of the Node (`margay.io/ipip: unavailable`) that this one's kernel has no IPIP:
 * they then send by the fallback that a pool names, or keep sending what is lost here.
 */
export class TunnelReport {
  readonly #changed: Trigger;
  #lacking: boolean | undefined;

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

  lacksIpip(lacking: boolean): void {
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
        log.warn({ node, error: explain(thrown), retryMs }, 'the Node does not tell of IPIP yet; will retry');
      }
    }
  }

  async #write(): Promise<void> {
    const { store, node } = this.options;
    if (this.#lacking === undefined) return;
    const found = await store.get({ type: 'Node', name: node });
    // Without one, its event comes back here when it is written.
    if (!found) return;
    const { [ipipAnnotation]: before, ...others } = found.value.metadata.annotations ?? {};
    const wanted = this.#lacking ? 'unavailable' : undefined;
    if (before === wanted) return;
    const annotations = { ...others, ...(wanted !== undefined && { [ipipAnnotation]: wanted }) };
    const value = { ...found.value, metadata: { ...found.value.metadata, annotations } };
    const { outcome } = await store.update(found.key, value, found.revision);
    if (outcome !== 'written') throw new Error(`the Node resource changed meanwhile (${outcome})`);
  }
}
