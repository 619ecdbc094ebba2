export { endpointName, hostDeviceName } from '../model/endpoint-name.ts';

/* Names that Calico's parts and ours must agree on. */

/** MAC of every host end, so that pods keep a valid gateway entry when their host end is made anew. */
export const hostMac = 'ee:ee:ee:ee:ee:ee';

/** Link-local address that the kernel derives from `hostMac` (RFC 4291 appendix A): the pods' IPv6 gateway. */
export const hostLinkLocal = 'fe80::ecee:eeff:feee:eeee';

/** Gateway of every pod; no device has it, the host end answers for it by proxy ARP. */
export const gateway4 = '169.254.1.1';

/** The IPAM handle of a container: `<network>.<containerID>`. */
export function handleId(network: string, containerId: string): string {
  return `${network}.${containerId}`;
}
