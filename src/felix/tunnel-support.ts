import type { Log } from '../base/log.ts';
import { type Encapsulation, tunnelModules } from './calc/tunnels.ts';
import type { TunnelStatus } from './managers/tunnel.ts';

/** Says once, in the log and to whom it concerns, what tunnels the kernel lacks, and that the slow one is in use. */
export class TunnelSupport {
  #lacking: ReadonlySet<Encapsulation> | undefined;
  #slow = false;
  readonly #listeners: ((lacking: ReadonlySet<Encapsulation>) => void)[] = [];

  constructor(private readonly log: Log) {}

  onChange(listener: (lacking: ReadonlySet<Encapsulation>) => void): void {
    this.#listeners.push(listener);
  }

  /** @param exposed pools that have no way to other nodes without the kind */
  update(tunnels: readonly TunnelStatus[], exposed: (kind: Encapsulation) => readonly string[]): void {
    const before = this.#lacking ?? new Set();
    const lacking = new Set(tunnels.flatMap(({ kind, state }) => (state === 'unsupported' ? [kind] : [])));
    const changed = this.#lacking === undefined || lacking.symmetricDifference(before).size > 0;
    for (const { kind, device, reason } of tunnels)
      if (lacking.has(kind) && !before.has(kind))
        this.log.warn(
          { device, reason, poolsWithoutFallback: exposed(kind) },
          `the kernel has no ${kind}: load the module (modprobe ${tunnelModules[kind]})`,
        );
    for (const kind of before)
      if (!lacking.has(kind)) this.log.info({ kind }, 'the kernel has the tunnel after all, or none is wanted');
    this.#lacking = lacking;
    this.#tellSlow(tunnels);
    if (changed) for (const listener of this.#listeners) listener(lacking);
  }

  #tellSlow(tunnels: readonly TunnelStatus[]): void {
    const used = tunnels.find(({ kind, state }) => kind === 'udp' && state === 'up');
    if (used && !this.#slow)
      this.log.warn(
        { device: used.device },
        'packets to some nodes go through this process, which is slow: load the kernel module that their pool asks for',
      );
    this.#slow = used !== undefined;
  }
}
