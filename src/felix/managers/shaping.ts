import type { Failure } from '../../base/reconcile.ts';
import { type Netlink, type Queue, type Shaper, shaperHandle } from '../../kernel/types.ts';
import type { Bandwidth } from '../../model/bandwidth.ts';
import type { LocalEndpoint } from '../calc/endpoints.ts';

/** Seconds that a packet waits at most: what does not fit is dropped. */
const latency = 0.025;
/** Octets that go at once where nobody says: a quarter of a second, and no less than the largest packet of a veth. */
const usualSeconds = 0.25;
const leastBurst = 65_536;
/** The kernel counts a burst in ticks of 64 ns, 32 bits of them. */
const mostSeconds = 270;

/** A token bucket for what goes to a pod. */
export function shaperOf(device: string, { rate: bits, burst: burstBits }: Bandwidth): Shaper {
  const rate = Math.max(1, Math.floor(bits / 8));
  const asked = burstBits === undefined ? rate * usualSeconds : burstBits / 8;
  const most = Math.min(0x7fffffff, rate * mostSeconds);
  const burst = Math.floor(Math.min(most, Math.max(leastBurst, asked)));
  return { device, rate, burst, limit: Math.min(0xffffffff, Math.floor(rate * latency) + burst) };
}

/**
 * Bandwidth to pods: a shaper on the node's side of each pod that has a limit. Ours are told by their handle; a queue
 * that another program put on a pod's device, such as the bandwidth plugin, is left to it, and that is a failure.
 */
export class ShapingManager {
  /** Device → what was set, and the index of the device it was set on. */
  readonly #applied = new Map<string, { readonly index: number; readonly shaper: Shaper }>();
  #known = false;

  constructor(
    private readonly netlink: Netlink,
    /** Index of a device that is set up, if it is. */
    private readonly indexOf: (endpoint: LocalEndpoint) => number | undefined,
    private readonly interfacePrefix: string,
  ) {}

  /** The next `apply` looks at the kernel again. */
  recheck(): void {
    this.#known = false;
  }

  apply(endpoints: Iterable<LocalEndpoint>): Failure[] {
    const wanted = new Map<string, { index: number; shaper: Shaper }>();
    for (const endpoint of endpoints) {
      const index = this.indexOf(endpoint);
      const { ingress } = endpoint.wishes;
      if (ingress && index !== undefined)
        wanted.set(endpoint.interfaceName, { index, shaper: shaperOf(endpoint.interfaceName, ingress) });
    }
    if (this.#known && this.#stands(wanted)) return [];
    return this.#mend(wanted);
  }

  #stands(wanted: ReadonlyMap<string, { readonly index: number; readonly shaper: Shaper }>): boolean {
    if (wanted.size !== this.#applied.size) return false;
    return [...wanted].every(([device, { index, shaper }]) => {
      const applied = this.#applied.get(device);
      return applied?.index === index && applied.shaper.rate === shaper.rate && applied.shaper.burst === shaper.burst;
    });
  }

  #mend(wanted: ReadonlyMap<string, { readonly index: number; readonly shaper: Shaper }>): Failure[] {
    const failures: Failure[] = [];
    const attempt = (device: string, action: () => void) => {
      try {
        action();
      } catch (cause) {
        if (this.netlink.link(device)) failures.push({ kind: 'shaper', item: device, cause });
      }
    };
    this.#applied.clear();
    const found = new Map(this.netlink.queues().map((queue) => [queue.device, queue]));
    for (const [device, want] of wanted)
      attempt(device, () => {
        this.#set(want.shaper, found.get(device));
        this.#applied.set(device, want);
      });
    for (const [device, { handle }] of found)
      if (handle === shaperHandle && device.startsWith(this.interfacePrefix) && !wanted.has(device))
        attempt(device, () => this.netlink.deleteShaper(device));
    this.#known = failures.length === 0;
    return failures;
  }

  #set(shaper: Shaper, found: Queue | undefined): void {
    if (found && found.handle !== shaperHandle)
      throw new Error(`${shaper.device} has a queue (${found.kind}) of another program; its bandwidth is not limited`);
    if (!found || !same(found, shaper)) this.netlink.setShaper(shaper);
  }
}

/** The kernel gives the burst back in ticks. */
function same({ kind, rate, burst = 0, limit }: Queue, wanted: Shaper): boolean {
  const near = Math.abs(burst - wanted.burst) <= Math.max(64, wanted.burst / 100);
  return kind === 'tbf' && rate === wanted.rate && limit === wanted.limit && near;
}
