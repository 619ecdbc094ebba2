import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readPacketHead } from '../../kernel/ip-header.ts';
import type { Logged, Nflog } from '../../kernel/nflog-socket.ts';
import type { Ip } from '../../model/address.ts';
import { parseVerdictPrefix } from '../../policy/render/verdict.ts';
import type { Flow, FlowEnd } from './flow.ts';
import { directionOf, type VerdictPlaces } from './places.ts';

/** Flows that are remembered. */
const remembered = 4096;
/** Between two looks at the queue, which holds thousands. */
const pollMs = 200;
/** Packets of one look: what comes faster for long is lost, and counted. */
const mostAtOnce = 1000;

export interface FlowLogDependencies {
  /** Whether rules tell anything. */
  readonly wanted: () => boolean;
  /** Binds to the group of our rules. */
  readonly open: () => Nflog;
  readonly places: VerdictPlaces;
  /** The pod that has an address now. */
  readonly podAt: (address: Ip) => { readonly namespace: string; readonly pod: string } | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export interface FlowLogState {
  /** Why nothing is read. */
  readonly problem?: string;
  /** Told by the kernel since felix started. */
  readonly told: number;
  /** More than could be read, since felix started. */
  readonly lost: number;
}

/**
 * The last verdicts that the kernel told of. Memory and work are bounded: the kernel tells of a few packets of each rule a
 * second, its queue is looked at a few times a second, and of what is read only the last thousands are kept.
 */
export class FlowLog {
  readonly #ring: Flow[] = [];
  readonly #followers = new Set<(flow: Flow) => void>();
  #told = 0;
  #lost = 0;
  #problem: string | undefined;
  #socket: Nflog | undefined;

  constructor(private readonly deps: FlowLogDependencies) {}

  /** The last flows, oldest first. */
  *recent(): Generator<Flow> {
    const start = this.#ring.length < remembered ? 0 : this.#told % remembered;
    for (let at = 0; at < this.#ring.length; at++) {
      const flow = this.#ring[(start + at) % this.#ring.length];
      if (flow) yield flow;
    }
  }

  /** Hands every flow from now on to `listener`, until the result is called. */
  follow(listener: (flow: Flow) => void): () => void {
    this.#followers.add(listener);
    return () => void this.#followers.delete(listener);
  }

  get followers(): number {
    return this.#followers.size;
  }

  state(): FlowLogState {
    return { ...(this.#problem !== undefined && { problem: this.#problem }), told: this.#told, lost: this.#lost };
  }

  /** Reads until the signal aborts. Without NFLOG, or while another program has the group, it goes on trying. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.deps;
    const backoff = new Backoff(1_000, 60_000);
    try {
      while (!signal.aborted) {
        try {
          this.#look();
          backoff.reset();
          await pause(clock, pollMs, signal);
        } catch (thrown) {
          this.#close();
          const delay = backoff.next();
          if (this.#problem !== explain(thrown))
            log.warn({ error: explain(thrown), retryMs: delay }, 'verdicts cannot be read; margayctl flows shows none');
          this.#problem = explain(thrown);
          await pause(clock, delay, signal);
        }
      }
    } finally {
      this.#close();
    }
  }

  #look(): void {
    if (!this.deps.wanted()) this.#close();
    else this.#socket ??= this.deps.open();
    this.#problem = undefined;
    if (!this.#socket) return;
    const at = this.deps.clock.wall().toISOString();
    const { lost } = this.#socket.read(mostAtOnce, (logged) => this.#take(logged, at));
    this.#lost += lost;
  }

  #close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #take({ prefix, packet }: Logged, at: string): void {
    const mark = parseVerdictPrefix(prefix);
    const direction = mark && directionOf(mark.chain);
    const head = readPacketHead(packet);
    if (!mark || !direction || !head) return;
    const { protocol, icmp } = head;
    const flow: Flow = {
      number: this.#told + 1,
      at,
      verdict: mark.verdict,
      direction,
      protocol,
      ...(icmp && { icmp }),
      source: this.#end(head.source, head.sourcePort),
      destination: this.#end(head.destination, head.destinationPort),
      reason: this.deps.places.reasonOf(prefix, mark),
      chain: mark.chain,
    };
    this.#ring[this.#told % remembered] = flow;
    this.#told++;
    for (const listener of this.#followers) listener(flow);
  }

  #end(address: Ip, port: number | undefined): FlowEnd {
    return { address, ...(port !== undefined && { port }), ...this.deps.podAt(address) };
  }
}
