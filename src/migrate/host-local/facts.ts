import type { Cidr, Ip } from '../../model/address.ts';
import type { Block } from '../../model/ipam.ts';
import type { IpPool } from '../../model/kinds.ts';

/* What is known of a node that gets its addresses by the host-local plugin, as flannel, kubenet and bridge do. */

/** A file of host-local's: an address and the container that holds it. */
export interface Reservation {
  /** Folder below /var/lib/cni/networks. */
  readonly network: string;
  readonly address: Ip;
  readonly containerId: string;
  /** Absent in files of old versions. */
  readonly ifName?: string;
}

/** What the runtime remembers of an ADD (libcni's cache, `cniCacheV1`). */
export interface Attachment {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
  readonly namespace?: string;
  readonly pod?: string;
  /** Path of the pod's network namespace. */
  readonly netns?: string;
}

/** A route of a pod, as it is put back. */
export interface PodRoute {
  readonly destination: Cidr;
  readonly gateway?: Ip;
  readonly scope: 'universe' | 'link';
  readonly metric: number;
  readonly protocol: number;
}

/** A pod's pair of devices as it is now. */
export interface Pair {
  readonly hostDevice: string;
  readonly hostMac: string;
  /** The bridge that the host's end is a port of. */
  readonly bridge?: string;
  readonly podMac: string;
  /** `10.244.1.5/24`, the length as it is on the device. */
  readonly podAddresses: readonly string[];
  readonly podRoutes: readonly PodRoute[];
}

/** Why a pod's devices cannot be taken over. */
export interface Unfit {
  readonly problem: string;
}

/** The network configuration that the runtime takes: the first in the order of the alphabet. */
export interface Configuration {
  readonly file: string;
  readonly network: string;
  readonly types: readonly string[];
  /** Its addresses come of podCIDRs still, whichever plugin gives them. */
  readonly hostLocal?: boolean;
}

export interface Facts {
  readonly node: string;
  /** First of FELIX_INTERFACEPREFIX. */
  readonly interfacePrefix: string;
  readonly podCidrs: readonly Cidr[];
  /** Of the Node resource; undefined when there is none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly pools: readonly IpPool[];
  readonly blocks: readonly Block[];
  readonly reservations: readonly Reservation[];
  readonly attachments: readonly Attachment[];
  /** By container and device, `<containerID> <ifName>`. */
  readonly pairs: ReadonlyMap<string, Pair | Unfit>;
  /** Addresses with lengths of the node's own devices. */
  readonly hostAddresses: readonly { readonly device: string; readonly cidr: string; readonly address: Ip }[];
  readonly configuration?: Configuration | undefined;
  /** What could not be read. */
  readonly faults: readonly string[];
}

/** Key of `pairs`. */
export function attachmentKey({
  containerId,
  ifName,
}: {
  readonly containerId: string;
  readonly ifName: string;
}): string {
  return `${containerId} ${ifName}`;
}
