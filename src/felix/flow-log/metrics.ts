import { Counter, type Registry } from 'prom-client';
import { plainCounters } from '../metrics.ts';
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
