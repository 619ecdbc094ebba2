import { openPodNamespace } from '../../cni/pod.ts';
import type { Store } from '../../datastore/store.ts';
import type { Netlink } from '../../kernel/types.ts';
import { type Cidr, parseCidr } from '../../model/address.ts';
import { attachmentKey, type Facts, type Pair, type Unfit } from './facts.ts';
import { readAttachments, readConfiguration, readFlannelSubnet, readReservations } from './files.ts';
import { type InPod, lookAt } from './pair.ts';

/** Where a node keeps what is read. */
export interface Folders {
  /** host-local's, `/var/lib/cni/networks`. */
  readonly networks: string;
  /** libcni's cache, `/var/lib/cni/results`. */
  readonly results: string;
  /** `/etc/cni/net.d` */
  readonly configurations: string;
  /** Flannel's environment file, `/run/flannel/subnet.env`. */
  readonly flannel: string;
}

export interface Gathering {
  readonly store: Store;
  readonly host: Netlink;
  readonly node: string;
  readonly interfacePrefix: string;
  readonly folders: Folders;
  /** Given by the person; else the Node's, else flannel's. */
  readonly podCidrs: readonly Cidr[];
}

/** Opens a pod's namespace for one action. */
export const inPodNamespace: InPod = (netns, action) => {
  const pod = openPodNamespace(netns);
  try {
    return action(pod);
  } finally {
    pod.close();
  }
};

/** Everything that a plan is made of. Nothing is changed. @throws InputError, KernelError, StoreUnavailableError */
export async function gather({ store, host, node, interfacePrefix, folders, podCidrs }: Gathering): Promise<Facts> {
  const [reservations, attachments, configuration, found, pools, blocks, cluster] = await Promise.all([
    readReservations(folders.networks),
    readAttachments(folders.results),
    readConfiguration(folders.configurations),
    store.get({ type: 'Node', name: node }),
    store.list('IPPool'),
    store.list('Block'),
    store.get({ type: 'ClusterInformation', name: 'default' }),
  ]);
  const holding = new Set(reservations.found.map(({ containerId }) => containerId));
  const pairs = new Map<string, Pair | Unfit>();
  for (const each of attachments.found)
    if (each.netns !== undefined && holding.has(each.containerId))
      pairs.set(attachmentKey(each), lookAt(host, inPodNamespace, each.netns, each.ifName));
  return {
    ...{ node, interfacePrefix, configuration, pairs },
    podCidrs: podCidrs.length > 0 ? podCidrs : await knownPodCidrs(found?.value, folders.flannel),
    labels: found && (found.value.metadata.labels ?? {}),
    pools: pools.entries.map(({ value }) => value),
    blocks: blocks.entries.map(({ value }) => value),
    reservations: reservations.found,
    attachments: attachments.found,
    hostAddresses: host.addresses().map(({ device, address, prefixLength }) => ({
      ...{ device, address, cidr: `${address}/${prefixLength}` },
    })),
    faults: [
      ...(cluster?.value.spec.datastoreReady === false ? ['the datastore is locked'] : []),
      ...reservations.faults,
      ...attachments.faults,
      ...[...pools.invalid, ...blocks.invalid].map(({ error }) => error.message),
    ],
  };
}

async function knownPodCidrs(node: object | undefined, flannel: string): Promise<readonly Cidr[]> {
  const { status } = (node ?? {}) as { readonly status?: { readonly podCIDRs?: readonly string[] } };
  const told = (status?.podCIDRs ?? []).map((text) => parseCidr(text, 'Node.status.podCIDRs'));
  if (told.length > 0) return told;
  const subnet = await readFlannelSubnet(flannel);
  return subnet === undefined ? [] : [subnet];
}
