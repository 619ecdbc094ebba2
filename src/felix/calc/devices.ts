import type { AddressOnLink } from '../../kernel/types.ts';
import { type Cidr, hostCidr } from '../../model/address.ts';

/** The node's own devices with their addresses as prefixes; pods' devices are not its own. */
export function ownDevices(
  addresses: readonly Pick<AddressOnLink, 'device' | 'address'>[],
  interfacePrefix: string,
): ReadonlyMap<string, ReadonlySet<Cidr>> {
  const devices = new Map<string, Set<Cidr>>();
  for (const { device, address } of addresses)
    if (!device.startsWith(interfacePrefix))
      devices.set(device, (devices.get(device) ?? new Set<Cidr>()).add(hostCidr(address)));
  return devices;
}
