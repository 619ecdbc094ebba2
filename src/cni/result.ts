import type { Ip } from '../model/address.ts';
import { familyOf, hostCidr } from '../model/address.ts';
import type { NetworkConfig } from './config.ts';
import { gateway4, hostLinkLocal, hostMac } from './names.ts';

/** What ADD made. */
export interface Attached {
  readonly hostDevice: string;
  readonly ifName: string;
  readonly netns: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly Ip[];
}

/** What of the network configuration shows in the result. */
export type Chain = Pick<NetworkConfig, 'cniVersion' | 'dns' | 'prevResult'>;

/**
 * The result of ADD in the form of the request's version: `ips` say their family up to 0.4.0, interfaces their MTU
 * from 1.1.0 on. What plugins before this one in the chain made comes first. CNI specification, "Add Success".
 */
export function formatResult({ cniVersion, dns, prevResult = {} }: Chain, made: Attached): string {
  const old = cniVersion < '1.0.0';
  const mtu = cniVersion >= '1.1.0' ? { mtu: made.mtu } : {};
  const { interfaces = [], ips = [], routes = [] } = prevResult;
  const result = {
    ...prevResult,
    cniVersion,
    interfaces: [
      ...interfaces,
      { name: made.hostDevice, mac: hostMac, ...mtu },
      { name: made.ifName, mac: made.mac, ...mtu, sandbox: made.netns },
    ],
    ips: [
      ...ips,
      ...made.addresses.map((address) => ({
        ...(old && { version: String(familyOf(address)) }),
        interface: interfaces.length + 1,
        address: hostCidr(address),
      })),
    ],
    routes: [
      ...routes,
      ...made.addresses.map((address) =>
        familyOf(address) === 4 ? { dst: '0.0.0.0/0', gw: gateway4 } : { dst: '::/0', gw: hostLinkLocal },
      ),
    ],
    dns: dns ?? prevResult.dns ?? {},
  };
  return `${JSON.stringify(result)}\n`;
}
