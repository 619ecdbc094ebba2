import type { Failure } from '../../base/reconcile.ts';
import { diff } from '../../base/reconcile.ts';
import type { Link, Netlink } from '../../kernel/types.ts';
import { type Family, familyOf, hostCidr, type Ip } from '../../model/address.ts';
import type { DesiredTunnel } from '../calc/remote.ts';
import { vxlanDevices, vxlanOverhead } from '../calc/tunnels.ts';

/** MTU of Ethernet, when no device has the node's address. */
const usualMtu = 1500;

/**
 * The VXLAN device of one family, its address, and a neighbour and a forwarding entry for every other node. The kernel
 * does not tell of neighbours, so the tables are read again with every check.
 */
export class VxlanManager {
  #applied: DesiredTunnel | undefined;
  #settled = false;
  #uplink: string | undefined;
  readonly #device: string;

  constructor(
    private readonly netlink: Netlink,
    private readonly family: Family,
    private readonly mtuWanted: () => number,
  ) {
    this.#device = vxlanDevices[family];
  }

  /** Whether routes through the device can be added. */
  get ready(): boolean {
    return this.#settled && this.#applied !== undefined;
  }

  recheck(): void {
    this.#settled = false;
  }

  /** @returns whether the link matters here: it is the device, or the one below */
  onLink({ name }: Pick<Link, 'name'>): boolean {
    if (name !== this.#device && name !== this.#uplink) return false;
    this.#settled = false;
    return this.#applied !== undefined;
  }

  /** Octets that fit into the tunnel: as configured, or what the uplink leaves. */
  mtu({ own }: DesiredTunnel): number {
    const wanted = this.mtuWanted();
    if (wanted > 0) return wanted;
    this.#uplink = this.netlink.addresses(this.family).find(({ address }) => address === own.underlay)?.device;
    const uplink = this.#uplink === undefined ? undefined : this.netlink.link(this.#uplink);
    return (uplink?.mtu ?? usualMtu) - vxlanOverhead[this.family];
  }

  apply(desired: DesiredTunnel | undefined): Failure[] {
    if (this.#settled && desired === this.#applied) return [];
    this.#applied = desired;
    try {
      if (desired) this.#mend(desired);
      else if (this.netlink.link(this.#device)?.kind === 'vxlan') this.netlink.deleteLink(this.#device);
      this.#settled = true;
      return [];
    } catch (cause) {
      this.#settled = false;
      return [{ kind: 'vxlan', item: this.#device, cause }];
    }
  }

  #mend(desired: DesiredTunnel): void {
    const { own, id, port } = desired;
    const mtu = this.mtu(desired);
    const name = this.#device;
    let link = this.netlink.link(name);
    if (link && !fits(link, desired)) {
      this.netlink.deleteLink(name);
      link = undefined;
    }
    link ??= this.netlink.addVxlan({ name, id, port, local: own.underlay, mac: own.mac, mtu });
    const mac = link.mac === own.mac ? {} : { mac: own.mac };
    const size = link.mtu === mtu ? {} : { mtu };
    const up = link.up ? {} : { up: true };
    const change = { ...mac, ...size, ...up };
    if (Object.keys(change).length > 0) this.netlink.setLink(name, change);
    this.#mendAddress(own.tunnel);
    this.#mendTables(desired);
  }

  #mendAddress(wanted: Ip | undefined): void {
    const name = this.#device;
    const cidr = wanted === undefined ? undefined : hostCidr(wanted);
    const found = this.netlink.addresses(this.family).filter(({ device, scope }) => device === name && scope === 0);
    for (const address of found) if (address.cidr !== cidr) this.netlink.deleteAddress(name, address.cidr);
    if (cidr !== undefined && !found.some((address) => address.cidr === cidr))
      this.netlink.addAddress(name, cidr, { noDad: true });
  }

  /** Entries before they are needed, and away after: an address that moves to another MAC is replaced in place. */
  #mendTables({ peers }: DesiredTunnel): void {
    const device = this.#device;
    const neighbours = diff(
      new Map(peers.flatMap(({ tunnel, mac }) => (tunnel === undefined ? [] : [[tunnel, mac] as const]))),
      new Map(
        this.netlink
          .neighbours(device)
          .filter(({ permanent, address }) => permanent && familyOf(address) === this.family)
          .map(({ address, mac }) => [address, mac ?? ''] as const),
      ),
      (wanted, found) => wanted === found,
    );
    const known = new Map(this.netlink.forwarding(device).map(({ mac, destination }) => [mac, destination] as const));
    const forwarding = diff(
      new Map(peers.map(({ mac, underlay }) => [mac, underlay] as const)),
      known,
      (wanted, found) => wanted === found,
    );
    for (const [mac, destination] of forwarding.upserts) this.netlink.setForwarding({ device, mac, destination });
    for (const [address, mac] of neighbours.upserts) this.netlink.setNeighbour({ device, address, mac });
    for (const address of neighbours.deletes) this.netlink.deleteNeighbour({ device, address });
    for (const mac of forwarding.deletes) {
      const destination = known.get(mac);
      if (destination !== undefined) this.netlink.deleteForwarding({ device, mac, destination });
    }
  }
}

function fits({ kind, vxlan }: Link, { id, port, own }: DesiredTunnel): boolean {
  return kind === 'vxlan' && vxlan?.id === id && vxlan.port === port && vxlan.local === own.underlay && !vxlan.learning;
}
