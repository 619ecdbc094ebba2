import { explain } from '../../base/errors.ts';
import { hostLinkLocal, hostMac } from '../../cni/names.ts';
import type { PodNamespace } from '../../cni/ports.ts';
import { configurePod, podRoutes } from '../../cni/veth.ts';
import { KernelError, type Netlink, type Route } from '../../kernel/types.ts';
import { cidrParts, familyOf, hostCidr, type Ip, parseCidr, parseIp } from '../../model/address.ts';
import type { Pair, PodRoute, Unfit } from './facts.ts';

/*
 * A live pod's pair of devices: looked at, taken over, put back. The pod keeps its addresses all the time, so its
 * connections live on; for the moment of the renaming its packets wait.
 */

const mainTable = 254;
/** RTPROT_KERNEL: routes that come and go with an address. */
const kernelProtocol = 2;

/** Runs an action in a pod's namespace, which is closed afterwards. */
export type InPod = <T>(netns: string, action: (pod: PodNamespace) => T) => T;

/** What the pair is like, or why it is none that can be taken over. @throws KernelError */
export function lookAt(host: Netlink, inPod: InPod, netns: string, ifName: string): Pair | Unfit {
  try {
    return inPod(netns, (pod) => pairOf(host, pod.netlink, ifName));
  } catch (thrown) {
    if (thrown instanceof KernelError) throw thrown;
    return { problem: explain(thrown) };
  }
}

function pairOf(host: Netlink, pod: Netlink, ifName: string): Pair | Unfit {
  const inner = pod.link(ifName);
  if (inner === undefined) return { problem: `the pod has no device ${ifName}` };
  if (inner.kind !== 'veth' || inner.peerIndex === undefined)
    return {
      problem: `its ${ifName} is no veth (${inner.kind ?? 'a device of the machine'}), so it has no end on the node`,
    };
  const links = host.links();
  const outer = links.find(({ index }) => index === inner.peerIndex);
  if (outer?.kind !== 'veth' || outer.peerIndex !== inner.index)
    return { problem: `the other end of its ${ifName} is not in the node's namespace` };
  const bridge = links.find(({ index }) => index === outer.master)?.name;
  const addresses = pod.addresses().filter(({ device, scope }) => device === ifName && scope === 0);
  return {
    hostDevice: outer.name,
    hostMac: outer.mac ?? hostMac,
    ...(bridge !== undefined && { bridge }),
    podMac: inner.mac ?? '',
    podAddresses: addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
    podRoutes: routesThrough(pod, ifName),
  };
}

/** Routes of the pod through one device that no address brings with it. */
function routesThrough(pod: Netlink, device: string): PodRoute[] {
  return pod.routes(undefined, mainTable).flatMap(({ destination, nextHops, scope, metric, protocol, type }) => {
    const [hop, ...more] = nextHops;
    if (type !== 'unicast' || protocol === kernelProtocol || hop?.device !== device || more.length > 0) return [];
    return [{ destination, ...(hop.gateway && { gateway: hop.gateway }), scope, metric, protocol }];
  });
}

export interface Takeover {
  readonly netns: string;
  readonly ifName: string;
  /** Name of the host's end from then on. */
  readonly device: string;
  readonly addresses: readonly Ip[];
  /** As it was before. */
  readonly pair: Pair;
}

/** Makes the pair what our ADD would have made. Every step may find its work done. @throws KernelError */
export function adopt(host: Netlink, inPod: InPod, work: Takeover): void {
  const { device, pair, ifName, netns, addresses } = work;
  if (host.link(device) === undefined) {
    host.setLink(pair.hostDevice, { up: false });
    host.setLink(pair.hostDevice, { name: device, master: 0, mac: hostMac });
  }
  host.setLink(device, { up: true });
  inPod(netns, (pod) => {
    const mtu = pod.netlink.link(ifName)?.mtu ?? 0;
    configurePod(host, pod, { hostDevice: device, ifName, netns, mtu, mac: pair.podMac }, addresses);
    const kept = new Set(podRoutes(ifName, addresses).map(({ destination }) => destination));
    throwFirst(
      pod.netlink.applyRoutes(
        [],
        pair.podRoutes.filter((one) => !(kept.has(one.destination) && one.metric === 0)).map(routeOf(ifName)),
      ),
    );
    for (const cidr of pair.podAddresses) if (!isHostLength(cidr)) pod.netlink.deleteAddress(ifName, cidr);
  });
}

/** Puts a pair back as it was. Every step may find its work done. @throws KernelError */
export function giveBack(host: Netlink, inPod: InPod, work: Takeover): void {
  const { device, pair, ifName, netns, addresses } = work;
  if (host.link(device) !== undefined) {
    const master = pair.bridge === undefined ? undefined : host.link(pair.bridge)?.index;
    host.setLink(device, { up: false });
    if (addresses.some((address) => familyOf(address) === 6)) host.deleteAddress(device, `${hostLinkLocal}/64`);
    host.setLink(device, { name: pair.hostDevice, mac: pair.hostMac, ...(master !== undefined && { master }) });
  }
  host.setLink(pair.hostDevice, { up: true });
  inPod(netns, ({ netlink }) => {
    for (const cidr of pair.podAddresses) netlink.addAddress(ifName, cidr, { noDad: true });
    // Gateways are reached by routes of link scope, which come first.
    const routes = pair.podRoutes.toSorted((a, b) => Number(a.scope === 'universe') - Number(b.scope === 'universe'));
    throwFirst(netlink.applyRoutes(routes.map(routeOf(ifName)), []));
    const before = new Set(pair.podRoutes.map(({ destination }) => destination));
    throwFirst(
      netlink.applyRoutes(
        [],
        podRoutes(ifName, addresses).filter(({ destination }) => !before.has(destination)),
      ),
    );
    for (const address of addresses) {
      const cidr = hostCidr(address);
      netlink.deleteNeighbour({ device: ifName, address: gatewayOf(address) });
      if (!pair.podAddresses.includes(cidr)) netlink.deleteAddress(ifName, cidr);
    }
  });
}

function gatewayOf(address: Ip): Ip {
  return parseIp(familyOf(address) === 4 ? '169.254.1.1' : hostLinkLocal);
}

function isHostLength(cidr: string): boolean {
  const { length, family } = cidrParts(parseCidr(cidr));
  return length === (family === 4 ? 32 : 128);
}

function routeOf(device: string): (route: PodRoute) => Route {
  return ({ destination, gateway, scope, metric, protocol }) => ({
    ...{ destination, scope, metric, protocol, type: 'unicast', table: mainTable },
    nextHops: [{ ...(gateway && { gateway }), device }],
  });
}

function throwFirst(failures: readonly { readonly cause: KernelError }[]): void {
  const [first] = failures;
  if (first) throw first.cause;
}
