import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** One line a minute for each address, and so many addresses remembered. */
const silenceMilliseconds = 60_000;
const maxRemembered = 256;

/** Closes connections that belong to no peer, without letting them fill the log. */
export class Strangers {
  readonly #logged = new Map<string, number>();

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  turnAway(socket: Socket, address: string | undefined, reason = 'the address is no configured peer'): void {
    socket.destroy();
    if (address === undefined) return;
    const now = this.clock.monotonic();
    const last = this.#logged.get(address);
    if (last !== undefined && now - last < silenceMilliseconds) return;
    if (this.#logged.size >= maxRemembered) this.#forget(now);
    if (this.#logged.size >= maxRemembered) return;
    this.#logged.set(address, now);
    this.log.warn({ address, reason }, 'BGP connection turned away');
  }

  #forget(now: number): void {
    for (const [address, at] of this.#logged) if (now - at >= silenceMilliseconds) this.#logged.delete(address);
  }
}
