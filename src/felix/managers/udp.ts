import { KernelError, type Link, type Netlink } from '../../kernel/types.ts';
import type { OpenUdpTunnel, UdpTunnel } from '../../kernel/udp-tunnel.ts';
import type { DesiredUdp } from '../calc/remote.ts';
import { udpDevice, udpOverhead } from '../calc/tunnels.ts';
import { mendAddress, mendLink, type TunnelKind } from './tunnel.ts';

/** The thread behind the device, and what it was opened for. */
interface Open {
  readonly tunnel: UdpTunnel;
  readonly index: number;
  readonly place: string;
}

/**
 * The userspace tunnel: a TUN device whose packets a thread of felix carries in UDP datagrams. The device outlives
 * felix, with its routes; the next one attaches to it again.
 * @param wake asks for another pass: the thread has ended
 */
export function udpTunnel(
  netlink: Netlink,
  openTunnel: OpenUdpTunnel | undefined,
  wake: () => void,
): TunnelKind<DesiredUdp> {
  const device = udpDevice;
  let open: Open | undefined;
  let closing: Promise<void> | undefined;
  let lost: Error | undefined;

  const close = (): Promise<void> => {
    if (open) closing = open.tunnel.close();
    open = undefined;
    return closing ?? Promise.resolve();
  };
  const ended = (cause: Error | undefined) => {
    open = undefined;
    closing = undefined;
    lost = cause;
    wake();
  };
  const attach = ({ own, port }: DesiredUdp, place: string): Open => {
    if (!openTunnel) throw new KernelError(`open TUN device ${device}`, 'EOPNOTSUPP', 'not on this node');
    const tunnel = openTunnel({ name: device, local: own.underlay, port }, ended);
    return { tunnel, index: linkOf(netlink)?.index ?? 0, place };
  };

  return {
    kind: 'udp',
    device,
    family: 4,
    overhead: udpOverhead,
    present: () => netlink.link(device)?.kind === 'tun',
    mend(desired, mtu) {
      const { own, port, destinations, peers } = desired;
      const place = `${own.underlay} ${port}`;
      const found = linkOf(netlink);
      if (open && (open.index !== found?.index || open.place !== place)) void close();
      if (closing) return 'its thread is ending';
      if (lost) {
        const cause = lost;
        lost = undefined;
        throw cause;
      }
      open ??= attach(desired, place);
      open.tunnel.setTable({ destinations, sources: peers.map(({ underlay }) => underlay) });
      const link = linkOf(netlink);
      if (!link) throw new KernelError(`get link ${device}`, 'ENODEV');
      mendAddress(netlink, device, 4, own.ipipTunnel ?? own.tunnel);
      mendLink(netlink, link, { mtu });
      return undefined;
    },
    takeDown() {
      void close();
      return netlink.deleteLinkAside(device);
    },
    release: close,
    packets: () => open && { ...open.tunnel.counts() },
  };
}

function linkOf(netlink: Netlink): Link | undefined {
  const link = netlink.link(udpDevice);
  if (link && link.kind !== 'tun') throw new Error(`${udpDevice} is a device of kind ${link.kind ?? 'none'}, not tun`);
  return link;
}
