import type { Failure } from '../../base/reconcile.ts';
import type { Link, Netlink } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';
import type { LocalEndpoint } from '../calc/endpoints.ts';
import type { Turns } from '../slices.ts';

/** Writes a sysctl (`net/ipv4/conf/eth0/forwarding`) when it differs, or, for a device just made, without looking. */
export type WriteSysctl = (path: string, value: string, unread?: boolean) => void;

/** Devices whose sysctls one pass looks at: a tenth of a millisecond each, more on a busy machine. */
const checkSlice = 50;

/** Of these, devices between two looks at the clock. */
const checkedInTurn = 5;

/** Pods set up without a pause: a millisecond each at most. */
const podsInTurn = 10;

/** Settings of a pod's device on the host, in the order in which they are written. */
function sysctlsOf(
  device: string,
  families: readonly Family[],
  lenient: boolean,
): readonly (readonly [string, string])[] {
  const four = [
    [`net/ipv4/conf/${device}/route_localnet`, '1'],
    [`net/ipv4/conf/${device}/proxy_arp`, '1'],
    [`net/ipv4/conf/${device}/forwarding`, '1'],
    [`net/ipv4/neigh/${device}/proxy_delay`, '0'],
    // The rule in raw knows which sources the pod may use; the sysctl does not.
    ...(lenient ? [[`net/ipv4/conf/${device}/rp_filter`, '0'] as const] : []),
  ] as const;
  const six = [
    [`net/ipv6/conf/${device}/disable_ipv6`, '0'],
    [`net/ipv6/conf/${device}/accept_ra`, '0'],
    [`net/ipv6/conf/${device}/proxy_ndp`, '1'],
    [`net/ipv6/conf/${device}/forwarding`, '1'],
  ] as const;
  return [...(families.includes(4) ? four : []), ...(families.includes(6) ? six : [])];
}

/**
 * The host side of pods: sysctls written and the link up. An endpoint whose device is not there yet waits for it
 * without being a failure; the kernel's event brings it back.
 */
export class EndpointManager {
  #links = new Map<string, Link>();
  /** Index → name of a link. */
  #names = new Map<number, string>();
  /** Device → index of the link that was set up, and whether for sources besides the pod's own. */
  readonly #settled = new Map<string, { readonly index: number; readonly lenient: boolean }>();
  /** Devices whose sysctls are looked at again. */
  #suspect: string[] = [];

  constructor(
    private readonly netlink: Netlink,
    private readonly writeSysctl: WriteSysctl,
    private readonly families: readonly Family[],
  ) {}

  /** Reads the links anew and checks every setting again at the next `apply`. */
  read(): void {
    this.#links = new Map(this.netlink.links().map((link) => [link.name, link]));
    this.#names = new Map([...this.#links.values()].map(({ index, name }) => [index, name]));
    this.#settled.clear();
  }

  /** The next `apply` calls look at the sysctls of every device again, a slice each. */
  recheck(): void {
    if (this.#suspect.length === 0) this.#suspect = [...this.#settled.keys()];
  }

  /** Whether the kernel's report says nothing new. */
  knows({ name, index, up, mtu }: Link): boolean {
    const known = this.#links.get(name);
    return known?.index === index && known.up === up && known.mtu === mtu;
  }

  /** Takes over what the kernel reports. @returns whether the device had been up and no longer is */
  onLink(link: Link, gone: boolean): boolean {
    const before = this.#links.get(link.name);
    const renamed = this.#names.get(link.index);
    if (renamed !== undefined && renamed !== link.name) this.#forget(renamed);
    if (gone && before?.index !== link.index) return false;
    if (gone) this.#forget(link.name);
    else this.#keep(link);
    const lost = before?.up === true && (gone || !link.up || before.index !== link.index);
    if (lost) this.#settled.delete(link.name);
    return lost;
  }

  isPodDevice(index: number, prefix: string): boolean {
    return this.#names.get(index)?.startsWith(prefix) ?? false;
  }

  /** Octets of the largest packet on a device, as far as its link is known. */
  mtuOf(device: string): number | undefined {
    return this.#links.get(device)?.mtu;
  }

  present({ interfaceName }: LocalEndpoint): boolean {
    return this.#links.has(interfaceName);
  }

  /** Index of the endpoint's device once it is set up. */
  indexOf(endpoint: LocalEndpoint): number | undefined {
    return this.ready(endpoint) ? this.#settled.get(endpoint.interfaceName)?.index : undefined;
  }

  /** Whether routes to the endpoint can be added. */
  ready({ interfaceName }: LocalEndpoint): boolean {
    const link = this.#links.get(interfaceName);
    return link?.up === true && this.#settled.get(interfaceName)?.index === link.index;
  }

  /** A hundred pods that come at once are set up a few in a turn of the event loop. */
  async apply(endpoints: Iterable<LocalEndpoint>, turns: Turns): Promise<Failure[]> {
    const failures: Failure[] = [];
    let inTurn = 0;
    for (const endpoint of endpoints) {
      const { interfaceName } = endpoint;
      const link = this.#links.get(interfaceName);
      const lenient = endpoint.wishes.sourcePrefixes.length > 0;
      if (!link || (this.ready(endpoint) && this.#settled.get(interfaceName)?.lenient === lenient)) continue;
      if (++inTurn % podsInTurn === 0) await turns.next();
      else await turns.breathe();
      try {
        const fresh = !link.up;
        for (const [path, value] of sysctlsOf(interfaceName, this.families, lenient))
          this.writeSysctl(path, value, fresh);
        if (fresh) this.netlink.setLink(interfaceName, { up: true });
        this.#keep({ ...link, up: true });
        this.#settled.set(interfaceName, { index: link.index, lenient });
      } catch (cause) {
        // A device that went away meanwhile is no failure: its event is on the way.
        if (this.netlink.link(interfaceName)) failures.push({ kind: 'endpoint', item: endpoint.name, cause });
        else this.#forget(interfaceName);
      }
    }
    return failures;
  }

  /** Sysctls that others may have changed; a slice of the devices at a time. */
  async mendSysctls(turns: Turns): Promise<Failure[]> {
    const failures: Failure[] = [];
    for (const [at, device] of this.#suspect.splice(0, checkSlice).entries()) {
      if (at % checkedInTurn === 0) await turns.breathe();
      const settled = this.#settled.get(device);
      if (!settled) continue;
      try {
        for (const [path, value] of sysctlsOf(device, this.families, settled.lenient)) this.writeSysctl(path, value);
      } catch (cause) {
        if (this.netlink.link(device)) failures.push({ kind: 'sysctl', item: device, cause });
        else this.#forget(device);
      }
    }
    return failures;
  }

  #keep(link: Link): void {
    const before = this.#links.get(link.name);
    if (before) this.#names.delete(before.index);
    this.#links.set(link.name, link);
    this.#names.set(link.index, link.name);
  }

  #forget(name: string): void {
    const before = this.#links.get(name);
    if (before && this.#names.get(before.index) === name) this.#names.delete(before.index);
    this.#links.delete(name);
    this.#settled.delete(name);
  }
}
