import { diff } from '../../base/reconcile.ts';
import type { Link, Netlink } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import type { DesiredTunnel } from '../calc/remote.ts';
import { vxlanDevices, vxlanOverhead } from '../calc/tunnels.ts';
import type { Turns } from '../slices.ts';
import { mendAddress, mendLink, type TunnelKind } from './tunnel.ts';

/** Entries written between two looks at the clock: some milliseconds. */
const entriesAtOnce = 256;

/**
 * The VXLAN device of one family, its address, and a neighbour and a forwarding entry for every other node. The kernel
 * does not tell of neighbours, so the tables are read again with every check.
 */
export function vxlanTunnel(netlink: Netlink, family: Family): TunnelKind<DesiredTunnel> {
  const device = vxlanDevices[family];
  return {
    kind: 'vxlan',
    device,
    family,
    overhead: vxlanOverhead[family],
    present: () => netlink.link(device)?.kind === 'vxlan',
    async mend(desired, mtu, turns) {
      const { own, id, port } = desired;
      let link = netlink.link(device);
      if (link && !fits(link, desired)) {
        netlink.deleteLink(device);
        link = undefined;
      }
      link ??= netlink.addVxlan({ name: device, id, port, local: own.underlay, mac: own.mac, mtu });
      mendLink(netlink, link, { mtu, mac: own.mac });
      mendAddress(netlink, device, family, own.tunnel);
      await mendTables(netlink, desired, turns);
      return undefined;
    },
    takeDown: () => netlink.deleteLinkAside(device),
  };
}

/** Entries before they are needed, and away after: an address that moves to another MAC is replaced in place. */
async function mendTables(netlink: Netlink, { device, family, peers }: DesiredTunnel, turns: Turns): Promise<void> {
  await turns.breathe();
  const permanent = netlink
    .neighbours(device)
    .filter((neighbour) => neighbour.permanent && familyOf(neighbour.address) === family);
  await turns.breathe();
  const neighbours = diff(
    new Map(peers.flatMap(({ tunnel, mac }) => (tunnel === undefined ? [] : [[tunnel, mac] as const]))),
    new Map(permanent.map(({ address, mac }) => [address, mac ?? ''] as const)),
    (wanted, found) => wanted === found,
  );
  await turns.breathe();
  const known = new Map(netlink.forwarding(device).map(({ mac, destination }) => [mac, destination] as const));
  await turns.breathe();
  const forwarding = diff(
    new Map(peers.map(({ mac, underlay }) => [mac, underlay] as const)),
    known,
    (wanted, found) => wanted === found,
  );
  for (const some of chunks(forwarding.upserts)) {
    await turns.breathe();
    netlink.setForwardings(
      device,
      some.map(([mac, destination]) => ({ mac, destination })),
    );
  }
  for (const some of chunks(neighbours.upserts)) {
    await turns.breathe();
    netlink.setNeighbours(
      device,
      some.map(([address, mac]) => ({ address, mac })),
    );
  }
  for (const address of neighbours.deletes) netlink.deleteNeighbour({ device, address });
  for (const mac of forwarding.deletes) {
    const destination = known.get(mac);
    if (destination !== undefined) netlink.deleteForwarding({ device, mac, destination });
  }
}

function* chunks<T>(list: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < list.length; at += entriesAtOnce) yield list.slice(at, at + entriesAtOnce);
}

function fits({ kind, vxlan }: Link, { id, port, own }: DesiredTunnel): boolean {
  return kind === 'vxlan' && vxlan?.id === id && vxlan.port === port && vxlan.local === own.underlay && !vxlan.learning;
}
