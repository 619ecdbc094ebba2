import { Counter, type Registry } from 'prom-client';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Counters } from '../../kernel/iptables/counters.ts';
import type { Family } from '../../model/address.ts';
import type { DeniedPackets } from './denied.ts';
import type { FlowLog } from './log.ts';

export interface VerdictMetrics {
  readonly denied: DeniedPackets;
  /** Reads the filter table's counters. */
  readonly read: () => Promise<ReadonlyMap<Family, Counters>>;
  readonly flows: Pick<FlowLog, 'state'>;
  readonly log: Log;
}

const labelNames = ['policy', 'direction'] as const;

/**
 * Calico's names for what policy denied. The counters are read when a scrape asks; without them the last values stand.
 */
export function registerVerdicts(registry: Registry, { denied, read, flows, log }: VerdictMetrics): void {
  const registers = [registry];
  let looking: Promise<void> | undefined;
  const look = () => {
    looking ??= read()
      .then((tables) => denied.look(tables))
      .catch((thrown: unknown) => log.warn({ error: explain(thrown) }, 'the counters of rules could not be read'))
      .finally(() => {
        looking = undefined;
      });
    return looking;
  };
  const counter = (name: string, help: string, value: 'packets' | 'bytes' | 'untold') =>
    new Counter({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        await look();
        this.reset();
        for (const each of denied.totals()) this.inc({ policy: each.policy, direction: each.direction }, each[value]);
      },
    });
  counter('calico_denied_packets', 'Number of packets that policy denied.', 'packets');
  counter('calico_denied_bytes', 'Number of bytes that policy denied.', 'bytes');
  counter('margay_felix_verdicts_untold', 'Number of denied packets of which the kernel did not tell.', 'untold');
  const plain = (name: string, help: string, value: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  plain('margay_felix_verdicts_told', 'Number of verdicts that the kernel told of.', () => flows.state().told);
  plain('margay_felix_verdicts_lost', 'Number of told verdicts that could not be read.', () => flows.state().lost);
}
