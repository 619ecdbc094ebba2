import { explain } from '../../base/errors.ts';
import type { Failure } from '../../base/reconcile.ts';
import { KernelError, type Link, type Netlink } from '../../kernel/types.ts';
import { type Family, hostCidr, type Ip } from '../../model/address.ts';
import type { Encapsulation, Place } from '../calc/tunnels.ts';
import type { Turns } from '../slices.ts';

/** MTU of Ethernet, when no device has the node's address. */
const usualMtu = 1500;

/** What is particular to a tunnel of one kind and family. */
export interface TunnelKind<D> {
  readonly kind: Encapsulation;
  readonly device: string;
  readonly family: Family;
  /** Octets that encapsulation adds. */
  readonly overhead: number;
  /** Whether a device of ours is in the kernel. */
  present(): boolean;
  /** Makes it, or what differs of it. @returns why that has to wait, if it has to @throws KernelError */
  mend(desired: D, mtu: number, turns: Turns): Promise<string | undefined> | string | undefined;
  /** Takes ours away, or out of use. @throws KernelError */
  takeDown(): Promise<unknown>;
  /** At felix's end: lets go of what only a process can hold; the device stays. */
  release?(): Promise<void>;
  /** Packets by what became of them, where felix carries them. */
  packets?(): Readonly<Record<string, number>> | undefined;
}

export interface TunnelStatus {
  readonly kind: Encapsulation;
  readonly device: string;
  /** `unsupported`: the kernel has no such tunnels. */
  readonly state: 'up' | 'waiting' | 'unsupported';
  readonly mtu: number;
  /** Why it is not up. */
  readonly reason?: string;
  /** By what became of them, where felix carries them. */
  readonly packets?: Readonly<Record<string, number>>;
}

/**
 * One tunnel device from its wish to its end. It is opened after the rules that choose its packets and closed after the
 * routes through it have moved. A kernel without this kind of tunnel is a condition, not a failure to be tried again
 * and again: the next reading of the kernel asks once more, and a module loaded meanwhile shows its device at once.
 */
export class TunnelManager<D extends { readonly own: Place }> {
  /** What this pass is about: the wish may change while it runs, and then its rules and routes are not there yet. */
  #planned: D | undefined;
  #applied: D | undefined;
  #settled = false;
  /** `open` is at work; what raises a doubt meanwhile is looked at by the next one. */
  #opening = false;
  #doubted = false;
  /** The device with the node's address, as it was found last; undefined: to be looked up. */
  #uplink: { readonly underlay: Ip; readonly name?: string; readonly mtu: number } | undefined;
  #unsupported: string | undefined;
  #problem: string | undefined;

  constructor(
    readonly kind: TunnelKind<D>,
    private readonly netlink: Netlink,
    /** The same object as long as nothing changed. */
    private readonly desired: () => D | undefined,
    private readonly mtuWanted: () => number,
  ) {}

  /** Whether routes through the device can be added. */
  get ready(): boolean {
    return this.#settled && this.#applied !== undefined && this.#unsupported === undefined;
  }

  /** Whether the device is in the kernel, wanted or not. */
  get stands(): boolean {
    return this.#settled ? this.ready : this.kind.present();
  }

  /** The next `open` looks at everything again. */
  recheck(): void {
    this.#uplink = undefined;
    if (this.#unsupported === undefined) this.#doubt();
  }

  /** As `recheck`; what the kernel did not have, it may have by now. */
  askAgain(): void {
    this.#unsupported = undefined;
    this.#uplink = undefined;
    this.#doubt();
  }

  #doubt(): void {
    if (this.#opening) this.#doubted = true;
    else this.#settled = false;
  }

  /** @returns whether the link matters here: it is the device, or the one below */
  onLink({ name }: Pick<Link, 'name'>): boolean {
    if (name !== this.kind.device && name !== this.#uplink?.name) return false;
    this.askAgain();
    return this.#applied !== undefined;
  }

  /** Octets that fit into the tunnel, as configured or what the uplink leaves; undefined where none is wanted. */
  mtu(): number | undefined {
    const desired = this.desired();
    return desired && this.#mtu(desired.own);
  }

  status(): TunnelStatus | undefined {
    const mtu = this.mtu();
    if (mtu === undefined) return undefined;
    const { kind, device } = this.kind;
    const packets = this.kind.packets?.();
    if (this.ready) return { kind, device, state: 'up', mtu, ...(packets && { packets }) };
    const reason = this.#unsupported ?? this.#problem;
    const state = this.#unsupported === undefined ? 'waiting' : 'unsupported';
    return { kind, device, state, mtu, ...(reason !== undefined && { reason }) };
  }

  /** Takes the wish of now for the `open` and `close` that follow. */
  plan(): void {
    this.#planned = this.desired();
  }

  /** Does nothing when no tunnel is planned. */
  async open(turns: Turns): Promise<Failure[]> {
    const desired = this.#planned;
    if (!desired || (this.#settled && !this.#doubted && desired === this.#applied)) return [];
    this.#applied = desired;
    this.#settled = false;
    this.#doubted = false;
    this.#opening = true;
    try {
      this.#problem = await this.kind.mend(desired, this.#mtu(desired.own), turns);
      this.#unsupported = undefined;
      if (this.#problem !== undefined) return [];
    } catch (cause) {
      const lacking = cause instanceof KernelError && cause.code === 'EOPNOTSUPP' && !this.kind.present();
      this.#problem = explain(cause);
      if (!lacking) return [this.#failure(cause)];
      this.#unsupported = this.#problem;
    } finally {
      this.#opening = false;
    }
    this.#settled = true;
    return [];
  }

  /** Does nothing while the tunnel is planned. `closed`: there was one, and it is out of use. */
  async close(): Promise<{ readonly failures: Failure[]; readonly closed: boolean }> {
    if (this.#planned || (this.#settled && this.#applied === undefined)) return { failures: [], closed: false };
    this.#applied = undefined;
    this.#unsupported = undefined;
    try {
      const closed = this.kind.present();
      if (closed) await this.kind.takeDown();
      this.#settled = true;
      return { failures: [], closed };
    } catch (cause) {
      this.#settled = false;
      return { failures: [this.#failure(cause)], closed: false };
    }
  }

  #failure(cause: unknown): Failure {
    return { kind: this.kind.kind, item: this.kind.device, cause };
  }

  #mtu({ underlay }: Place): number {
    const wanted = this.mtuWanted();
    if (wanted > 0) return wanted;
    if (this.#uplink?.underlay !== underlay) this.#uplink = this.#find(underlay);
    return this.#uplink.mtu - this.kind.overhead;
  }

  #find(underlay: Ip) {
    const name = this.netlink.addresses(this.kind.family).find(({ address }) => address === underlay)?.device;
    const link = name === undefined ? undefined : this.netlink.link(name);
    return { underlay, mtu: link?.mtu ?? usualMtu, ...(name !== undefined && { name }) };
  }
}

/** Gives a device one address of global scope, or none. @throws KernelError */
export function mendAddress(netlink: Netlink, device: string, family: Family, wanted: Ip | undefined): void {
  const cidr = wanted === undefined ? undefined : hostCidr(wanted);
  const found = netlink.addresses(family).filter((one) => one.device === device && one.scope === 0);
  for (const address of found) if (address.cidr !== cidr) netlink.deleteAddress(device, address.cidr);
  if (cidr !== undefined && !found.some((address) => address.cidr === cidr))
    netlink.addAddress(device, cidr, { noDad: true });
}

/** Sets what differs. @throws KernelError */
export function mendLink(
  netlink: Netlink,
  link: Link,
  wanted: { readonly mtu: number; readonly mac?: string; readonly alias?: string },
): void {
  const { mtu, mac = link.mac, alias = link.alias } = wanted;
  const change = {
    ...(mac !== undefined && link.mac !== mac && { mac }),
    ...(alias !== undefined && link.alias !== alias && { alias }),
    ...(link.mtu !== mtu && { mtu }),
    ...(!link.up && { up: true }),
  };
  if (Object.keys(change).length > 0) netlink.setLink(link.name, change);
}
