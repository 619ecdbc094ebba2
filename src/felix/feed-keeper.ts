import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { FeedMessage } from '../model/feed.ts';
import type { Graph } from './calc/graph.ts';
import type { FeedListener } from './feed.ts';
import { StaleTimer } from './stale.ts';

export type FeedState = { readonly connected: boolean; readonly reason?: string };

/** Takes the route feed into the calculation, and drops its routes when it stays away for too long. */
export class FeedKeeper implements FeedListener {
  readonly #stale: StaleTimer;
  #state: FeedState = { connected: false, reason: 'not connected yet' };

  constructor(
    private readonly graph: Graph,
    private readonly changed: () => void,
    private readonly log: Log,
    clock: Clock,
    staleSeconds: number,
  ) {
    this.#stale = new StaleTimer(clock, staleSeconds * 1000, () => this.#drop());
  }

  get state(): FeedState {
    return this.#state;
  }

  /** How long routes outlive the feed. */
  set staleSeconds(seconds: number) {
    this.#stale.limit = seconds * 1000;
  }

  /** The time runs from now on, or from when the kernel's routes were taken over, unless the feed is there. */
  start(): void {
    if (!this.#state.connected) this.#stale.start();
  }

  stop(): void {
    this.#stale.stop();
  }

  message(message: FeedMessage): void {
    this.graph.applyFeed(message);
    if (message.type === 'hello') {
      this.#state = { connected: true };
      this.#stale.pause();
    } else if (message.type === 'endOfSnapshot') this.#stale.clear();
    this.changed();
  }

  disconnected(reason: string): void {
    this.#state = { connected: false, reason };
    this.graph.feed.disconnected();
    this.#stale.start();
  }

  #drop(): void {
    const dropped = this.graph.dropStaleRoutes();
    if (dropped > 0) this.log.warn({ dropped }, 'the route feed stayed away; its routes are removed');
    this.changed();
  }
}
