import type { Netlink } from '../../kernel/types.ts';
import type { DesiredIpip } from '../calc/remote.ts';
import { ipipDevice, ipipOverhead } from '../calc/tunnels.ts';
import { mendAddress, mendLink, type TunnelKind } from './tunnel.ts';

/**
 * Alias of a device that we use. The module's own `tunl0` cannot be deleted and may serve others, so this tells a later
 * start whether it was ours.
 */
export const ipipAlias = 'margay';

/**
 * The IPIP device. It has no remote address: a route names the node behind it (`via <node> dev tunl0 onlink`). Routes
 * are all the state there is, so there is nothing to keep for each node.
 */
export function ipipTunnel(netlink: Netlink): TunnelKind<DesiredIpip> {
  const device = ipipDevice;
  return {
    kind: 'ipip',
    device,
    family: 4,
    overhead: ipipOverhead,
    present: () => isOurs(netlink),
    mend({ own }, mtu) {
      const link = netlink.link(device) ?? netlink.addIpip(device);
      if (link.kind !== 'ipip') throw new Error(`${device} is a device of kind ${link.kind ?? 'none'}, not ipip`);
      // The address first: what the node sends as soon as there is a route has it for a source.
      mendAddress(netlink, device, 4, own.ipipTunnel);
      mendLink(netlink, link, { mtu, alias: ipipAlias });
      return undefined;
    },
    takeDown: async () => releaseIpip(netlink),
  };
}

/** Whether there is an IPIP device that we use. */
export function isOurs(netlink: Netlink): boolean {
  const link = netlink.link(ipipDevice);
  return link?.kind === 'ipip' && link.alias === ipipAlias;
}

/** Without addresses and down, so that nothing is decapsulated: the module's own device is there for ever. */
export function releaseIpip(netlink: Netlink): void {
  mendAddress(netlink, ipipDevice, 4, undefined);
  netlink.setLink(ipipDevice, { up: false, alias: '' });
}
