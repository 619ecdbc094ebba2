import type { Netlink } from '../kernel/types.ts';
import type { OpenUdpTunnel } from '../kernel/udp-tunnel.ts';
import type { Family } from '../model/address.ts';
import type { RemoteBlocks } from './calc/remote.ts';
import type { Encapsulation } from './calc/tunnels.ts';
import { ipipTunnel } from './managers/ipip.ts';
import { type TunnelKind, TunnelManager } from './managers/tunnel.ts';
import { udpTunnel } from './managers/udp.ts';
import { vxlanTunnel } from './managers/vxlan.ts';

/** Configured MTU of a tunnel; 0 for what the uplink leaves. */
export type TunnelMtu = (kind: Encapsulation, family: Family) => number;

/** A tunnel whatever its kind wishes for. */
export type Tunnel = Pick<
  TunnelManager<never>,
  'ready' | 'stands' | 'recheck' | 'askAgain' | 'onLink' | 'mtu' | 'status' | 'plan' | 'open' | 'close'
> & { readonly kind: Pick<TunnelKind<never>, 'kind' | 'device' | 'family' | 'release'> };

export interface TunnelDependencies {
  readonly families: readonly Family[];
  readonly remote: RemoteBlocks;
  readonly netlink: Netlink;
  readonly openUdpTunnel: OpenUdpTunnel | undefined;
  readonly mtu: TunnelMtu;
  /** Asks for another pass. */
  readonly wake: () => void;
}

/** A manager for every tunnel that there may be. */
export function tunnelManagers({ families, remote, netlink, openUdpTunnel, mtu, wake }: TunnelDependencies): Tunnel[] {
  const vxlans = families.map((family) => {
    const kind = vxlanTunnel(netlink, family);
    return new TunnelManager(
      kind,
      netlink,
      () => remote.tunnel(family),
      () => mtu('vxlan', family),
    );
  });
  if (!families.includes(4)) return vxlans;
  const ipip = new TunnelManager(
    ipipTunnel(netlink),
    netlink,
    () => remote.ipip(),
    () => mtu('ipip', 4),
  );
  const udp = new TunnelManager(
    udpTunnel(netlink, openUdpTunnel, () => {
      udp.recheck();
      wake();
    }),
    netlink,
    () => remote.udp(),
    () => mtu('udp', 4),
  );
  return [...vxlans, ipip, udp];
}
