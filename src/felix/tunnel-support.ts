import type { Log } from '../base/log.ts';
import type { TunnelStatus } from './managers/tunnel.ts';

type Kind = 'vxlan' | 'ipip';

/** Says once, in the log and to whom it concerns, when it turns out that the kernel lacks a kind of tunnel, or no more. */
export class TunnelSupport {
  #lacking: ReadonlySet<Kind> | undefined;
  readonly #listeners: ((lacking: ReadonlySet<Kind>) => void)[] = [];

  constructor(private readonly log: Log) {}

  onChange(listener: (lacking: ReadonlySet<Kind>) => void): void {
    this.#listeners.push(listener);
  }

  /** @param exposed pools with IPIP and without a fallback */
  update(tunnels: readonly TunnelStatus[], exposed: readonly string[]): void {
    const before = this.#lacking ?? new Set();
    const lacking = new Set(tunnels.flatMap(({ kind, state }) => (state === 'unsupported' ? [kind] : [])));
    const changed = this.#lacking === undefined || lacking.symmetricDifference(before).size > 0;
    for (const { kind, device, reason } of tunnels)
      if (lacking.has(kind) && !before.has(kind))
        this.log.warn(
          { device, reason, ...(kind === 'ipip' && { poolsWithoutFallback: exposed }) },
          `the kernel has no ${kind}: load the module (modprobe ${kind})`,
        );
    for (const kind of before)
      if (!lacking.has(kind)) this.log.info({ kind }, 'the kernel has the tunnel after all, or none is wanted');
    this.#lacking = lacking;
    if (changed) for (const listener of this.#listeners) listener(lacking);
  }
}
