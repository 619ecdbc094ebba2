import type { KernelError, Link, Netlink, Route, VethRequest } from '../kernel/types.ts';
import { type Cidr, familyOf, hostCidr, type Ip, parseCidr, parseIp } from '../model/address.ts';
import { gateway4, hostLinkLocal, hostMac } from './names.ts';
import type { PodNamespace } from './ports.ts';

/*
 * The pair of devices between node and pod, and all that stands in the pod's namespace. The node's own side (sysctls,
 * routes, policy) is felix's.
 */

/** RTPROT_BOOT, as `ip route` without a protocol sets it. */
const bootProtocol = 3;
const mainTable = 254;

export interface VethPlan {
  readonly hostDevice: string;
  readonly ifName: string;
  readonly netns: string;
  readonly mtu: number;
  readonly mac: string;
}

/**
 * Creates the pair, the host's end up, in place of a host end that an earlier container of the pod left.
 * @returns the host's end; undefined when it is gone already
 * @throws KernelError
 */
export function createVeth(host: Netlink, plan: VethPlan): Link | undefined {
  const request = vethOf(plan);
  try {
    host.addVeth(request);
  } catch (thrown) {
    if ((thrown as KernelError).code !== 'EEXIST' || !host.deleteLink(plan.hostDevice)) throw thrown;
    host.addVeth(request);
  }
  return host.link(plan.hostDevice);
}

/** The same while this thread goes on. */
export async function createVethAside(host: Netlink, plan: VethPlan): Promise<Link | undefined> {
  try {
    return await host.addVethAside(vethOf(plan));
  } catch (thrown) {
    if ((thrown as KernelError).code !== 'EEXIST') throw thrown;
    return createVeth(host, plan);
  }
}

function vethOf({ hostDevice, ifName, netns, mtu, mac }: VethPlan): VethRequest {
  return { hostName: hostDevice, podName: ifName, netns, mtu, hostMac, podMac: mac, hostUp: true };
}

/**
 * Addresses, gateway and routes in the pod. Every step may find its work done already.
 * @param hostEnd of a pair that was made just now: it knows the index of the pod's end
 * @throws KernelError
 */
export function configurePod(
  host: Netlink,
  pod: PodNamespace,
  plan: VethPlan,
  addresses: readonly Ip[],
  hostEnd?: Link,
): void {
  const six = addresses.some((address) => familyOf(address) === 6);
  if (six) {
    pod.enableIpv6();
    unlessThere(() => host.addAddress(plan.hostDevice, `${hostLinkLocal}/64`, { noDad: true }));
  }
  const known = hostEnd?.peerIndex === undefined ? undefined : new Map([[plan.ifName, hostEnd.peerIndex]]);
  pod.netlink.together(() => configureInside(pod.netlink, plan.ifName, addresses), known);
}

function configureInside(netlink: Netlink, device: string, addresses: readonly Ip[]): void {
  netlink.setLink('lo', { up: true });
  netlink.setLink(device, { up: true });
  for (const address of addresses) {
    netlink.addAddress(device, hostCidr(address), { noDad: true });
    netlink.setNeighbour({ device, address: gatewayFor(address), mac: hostMac });
  }
  const [failure] = netlink.applyRoutes(podRoutes(device, addresses), []);
  if (failure) throw failure.cause;
}

/** The routes of a pod: IPv4's gateway is no neighbour by address, so it needs a link route of its own first. */
export function podRoutes(ifName: string, addresses: readonly Ip[]): Route[] {
  const common = { type: 'unicast', protocol: bootProtocol, metric: 0, table: mainTable } as const;
  const routes: Route[] = [];
  for (const address of addresses) {
    const gateway = gatewayFor(address);
    const four = familyOf(address) === 4;
    if (four) {
      routes.push({ ...common, destination: hostCidr(gateway), nextHops: [{ device: ifName }], scope: 'link' });
    }
    const destination = parseCidr(four ? '0.0.0.0/0' : '::/0');
    routes.push({ ...common, destination, nextHops: [{ gateway, device: ifName }], scope: 'universe' });
  }
  return routes;
}

/** Everything that is not as ADD left it, in words; empty when all is well. */
export function faults(host: Netlink, pod: PodNamespace, plan: VethPlan, addresses: readonly Ip[]): string[] {
  const found: string[] = [];
  const hostEnd = host.link(plan.hostDevice);
  if (hostEnd === undefined) found.push(`device ${plan.hostDevice} is missing on the node`);
  else if (!hostEnd.up) found.push(`device ${plan.hostDevice} is down on the node`);
  const podEnd = pod.netlink.link(plan.ifName);
  if (podEnd === undefined) return [...found, `device ${plan.ifName} is missing in ${plan.netns}`];
  if (!podEnd.up) found.push(`device ${plan.ifName} is down in ${plan.netns}`);
  if (plan.mac !== '' && podEnd.mac !== plan.mac)
    found.push(`device ${plan.ifName} has MAC ${podEnd.mac}, not ${plan.mac}`);
  const present = new Set(
    pod.netlink
      .addresses()
      .filter((entry) => entry.device === plan.ifName)
      .map((entry) => entry.address),
  );
  for (const address of addresses) {
    if (!present.has(address)) found.push(`address ${address} is missing on ${plan.ifName}`);
  }
  const routes = pod.netlink.routes();
  for (const wanted of podRoutes(plan.ifName, addresses)) {
    if (!routes.some((route) => sameRoute(route, wanted)))
      found.push(`route ${wanted.destination} is missing in the pod`);
  }
  return found;
}

function sameRoute(found: Route, wanted: Route): boolean {
  const [a] = found.nextHops;
  const [b] = wanted.nextHops;
  return found.destination === wanted.destination && a?.device === b?.device && a?.gateway === b?.gateway;
}

function gatewayFor(address: Ip | Cidr): Ip {
  return parseIp(familyOf(address) === 4 ? gateway4 : hostLinkLocal);
}

function unlessThere(action: () => void): void {
  try {
    action();
  } catch (thrown) {
    if ((thrown as KernelError).code !== 'EEXIST') throw thrown;
  }
}
