import { type Clock, pause } from '../base/clock.ts';
import type { FelixConfig } from './config.ts';

/** Something done from time to time. */
export interface Round {
  /** 0: never. */
  readonly seconds: number;
  /** Stretches the time between two, for what turned out to be dear. */
  readonly atLeastSeconds?: () => number;
  readonly action: () => void;
}

/**
 * Reading again from time to time, for what no event tells. The check is what mends rules, IP sets and sysctls that
 * others broke; it may take a twentieth of a processor's time at most.
 * @param actions `checkCost`: milliseconds of processor time that the last check took
 */
export function refreshRounds(
  config: FelixConfig,
  actions: Readonly<Record<'readAll' | 'sets' | 'tables' | 'check', () => void>> & { readonly checkCost: () => number },
): Round[] {
  return [
    { seconds: config.routeRefreshSeconds, action: actions.readAll },
    { seconds: config.ipsetsRefreshSeconds, action: actions.sets },
    { seconds: config.iptablesRefreshSeconds, action: actions.tables },
    { seconds: config.checkSeconds, atLeastSeconds: () => actions.checkCost() / 50, action: actions.check },
  ];
}

/** Does rounds until the signal aborts; `restart` begins anew with what `rounds` then gives. */
export class Rounds {
  #restart: AbortController | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly rounds: () => readonly Round[],
  ) {}

  restart(): void {
    this.#restart?.abort();
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#restart = new AbortController();
      const both = AbortSignal.any([signal, this.#restart.signal]);
      await Promise.all([ended(both), ...this.rounds().map((round) => this.#repeat(round, both))]);
    }
  }

  async #repeat({ seconds, atLeastSeconds, action }: Round, signal: AbortSignal): Promise<void> {
    while (seconds > 0 && !signal.aborted) {
      await pause(this.clock, Math.max(seconds, atLeastSeconds?.() ?? 0) * 1000, signal);
      if (!signal.aborted) action();
    }
  }
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
