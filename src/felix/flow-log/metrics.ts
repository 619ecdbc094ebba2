import { Counter, type Registry } from 'prom-client';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { plainCounters } from '../metrics.ts';
import type { StagedCount } from '../staged.ts';
import type { DeniedReader } from './denied.ts';
import type { FlowLog } from './log.ts';

const labelNames = ['policy', 'direction'] as const;

/** Calico's names for what policy denied. The counters are read when a scrape asks. */
export function registerVerdicts(registry: Registry, denied: DeniedReader, flows: Pick<FlowLog, 'state'>): void {
  const registers = [registry];
  const counter = (name: string, help: string, value: 'packets' | 'bytes' | 'untold') =>
    new Counter({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        const totals = await denied.totals();
        this.reset();
        for (const each of totals) this.inc({ policy: each.policy, direction: each.direction }, each[value]);
      },
    });
  counter('calico_denied_packets', 'Number of packets that policy denied.', 'packets');
  counter('calico_denied_bytes', 'Number of bytes that policy denied.', 'bytes');
  counter('margay_felix_verdicts_untold', 'Number of denied packets of which the kernel did not tell.', 'untold');
  const plain = plainCounters(registry);
  plain('margay_felix_verdicts_told', 'Number of verdicts that the kernel told of.', () => flows.state().told);
  plain('margay_felix_verdicts_lost', 'Number of told verdicts that could not be read.', () => flows.state().lost);
}

const stagedLabels = ['policy', 'direction', 'rule', 'action'] as const;

/**
 * What staged policies would have decided, by rule: as the kernel counts, which begins anew when a chain is written, as
 * Prometheus expects of counters. Rules count from 0; -1 and `none` is what no rule matches.
 */
export function registerStaged(registry: Registry, counts: () => Promise<readonly StagedCount[]>, log: Log): void {
  const counter = (
    name: string,
    help: string,
    value: 'packets' | 'bytes',
    read: () => Promise<readonly StagedCount[]>,
  ) =>
    new Counter({
      name,
      help,
      labelNames: stagedLabels,
      registers: [registry],
      async collect() {
        const all = await read();
        this.reset();
        for (const each of all) {
          const { policy, direction, rule, action } = each;
          this.inc({ policy, direction, rule: String(rule), action }, each[value]);
        }
      },
    });
  let reading: Promise<readonly StagedCount[]> | undefined;
  /** Once for all that a scrape asks. What cannot be read is left out of it, and logged. */
  const once = () => {
    reading ??= counts()
      .catch((thrown: unknown): readonly StagedCount[] => {
        log.warn({ error: explain(thrown) }, 'the counters of staged policies could not be read');
        return [];
      })
      .finally(() => {
        reading = undefined;
      });
    return reading;
  };
  counter('margay_felix_staged_packets', 'Number of packets that a staged policy would decide.', 'packets', once);
  counter('margay_felix_staged_bytes', 'Number of bytes that a staged policy would decide.', 'bytes', once);
}
