import { isDeepStrictEqual } from 'node:util';
import { buildEndpoint } from '../../cni/endpoint.ts';
import type { Store } from '../../datastore/store.ts';
import type { Scene } from '../../ipam/affinity.ts';
import type { Netlink } from '../../kernel/types.ts';
import { hostCidr } from '../../model/address.ts';
import { parseResource, type WorkloadEndpoint } from '../../model/kinds.ts';
import { apiVersion } from '../../model/resource.ts';
import { adopt, type InPod } from './pair.ts';
import type { Plan, PlannedPod, PlannedPool } from './plan.ts';
import type { MigrationRecord } from './record.ts';
import { TakenError, takeAddress, takeBlock } from './take.ts';

/*
 * Carries a plan out, in the order in which a pod misses the least and no address is given twice:
 *
 *   endpoints   felix prepares their rules
 *   devices     felix adds the pod's route as soon as the device has its name
 *   addresses   blocks, and in them what the pods have; felix closes what is left of the blocks
 *   pools       only now may anybody be given an address out of them
 */

export interface Applying {
  readonly scene: Scene;
  readonly host: Netlink;
  readonly inPod: InPod;
  /** Keeps what is about to be done; resolves when it is safe. */
  readonly note: (record: MigrationRecord) => Promise<void>;
  readonly done: (text: string) => void;
  readonly signal: AbortSignal;
  readonly vxlan: boolean;
}

/** @returns the record of all that was done, by this run and those before. @throws TakenError, KernelError, … */
export async function applyPlan(plan: Plan, before: MigrationRecord, deps: Applying): Promise<MigrationRecord> {
  let record = before;
  const noting = async (next: MigrationRecord) => {
    deps.signal.throwIfAborted();
    if (isDeepStrictEqual(next, record)) return;
    record = next;
    await deps.note(record);
  };
  for (const pod of plan.pods) {
    const { namespace, endpoint: name } = pod;
    const there = await deps.scene.store.get({ type: 'WorkloadEndpoint', namespace, name });
    const known = record.endpoints.some((one) => one.namespace === namespace && one.name === name);
    const endpoint = { namespace, name, created: there === undefined };
    if (!known) await noting({ ...record, endpoints: [...record.endpoints, endpoint] });
    await writeEndpoint(plan.node, pod, deps);
  }
  for (const { netns, ifName, device, addresses, pair, namespace, pod } of plan.pods) {
    const takeover = { netns, ifName, device, addresses, pair };
    // What an earlier run noted is how it was before anybody changed it.
    const known = record.takeovers.some((one) => one.netns === netns && one.device === device);
    if (!known) await noting({ ...record, takeovers: [...record.takeovers, takeover] });
    adopt(deps.host, deps.inPod, takeover);
    deps.done(`${namespace}/${pod}: ${pair.hostDevice} is ${device} now`);
  }
  for (const { cidr, owned } of plan.blocks) {
    if (!owned && !record.blocks.includes(cidr)) await noting({ ...record, blocks: [...record.blocks, cidr] });
    await takeBlock(deps.scene, plan.node, cidr);
  }
  const held = new Set(record.addresses.map(({ address }) => address));
  const more = plan.addresses.filter(({ address }) => !held.has(address));
  const addresses = [...record.addresses, ...more.map(({ address, handle }) => ({ address, handle }))];
  await noting({ ...record, addresses });
  for (const planned of plan.addresses) await takeAddress(deps.scene, plan.node, planned, deps.signal);
  deps.done(`${plan.addresses.length} addresses are held in ${plan.blocks.length} blocks`);
  for (const pool of plan.pools) {
    if (pool.exists) continue;
    await noting({ ...record, pools: [...record.pools, pool.name] });
    await makePool(pool, deps.scene.store, deps.vxlan);
    deps.done(`IPPool ${pool.name} (${pool.cidr}) is made`);
  }
  return record;
}

/** What our ADD would have stored; where a Pod stands for the endpoint, only what it lacks. */
async function writeEndpoint(node: string, planned: PlannedPod, { scene: { store, clock } }: Applying): Promise<void> {
  const { namespace, endpoint: name, addresses, pair, containerId } = planned;
  const key = { type: 'WorkloadEndpoint', namespace, name } as const;
  const found = await store.get(key);
  if (found === undefined) {
    const { outcome } = await store.create(key, endpointOf(node, planned, clock.wall()));
    if (outcome !== 'written') throw new TakenError(`WorkloadEndpoint ${namespace}/${name} was made by somebody else`);
    return;
  }
  const { spec } = found.value;
  if (spec.containerID === containerId && spec.mac === pair.podMac) return;
  if (spec.containerID && spec.containerID !== containerId)
    throw new TakenError(`WorkloadEndpoint ${namespace}/${name} is of container ${spec.containerID}`);
  const ipNetworks = addresses.map(hostCidr);
  const value: WorkloadEndpoint = {
    ...found.value,
    spec: { ...spec, containerID: containerId, mac: pair.podMac, ipNetworks },
  };
  const { outcome } = await store.update(key, value, found.revision);
  if (outcome !== 'written') throw new TakenError(`WorkloadEndpoint ${namespace}/${name} changed at the same time`);
}

function endpointOf(node: string, planned: PlannedPod, now: Date): WorkloadEndpoint {
  const { namespace, pod, endpoint, containerId, ifName, device, pair, addresses } = planned;
  const { metadata, ...rest } = buildEndpoint({
    ...{ node, name: endpoint, pod: { namespace, name: pod }, interfaceName: device, mac: pair.podMac, addresses, now },
    attachment: {
      containerId,
      ifName,
      network: { cniVersion: '1.0.0', name: '', poolsOf: { 4: [], 6: [] }, labels: {} },
    },
    uid: '',
  });
  const { uid: _, ...own } = metadata;
  return { ...rest, metadata: own };
}

async function makePool(
  { name, cidr, blockSize, nodeSelector }: PlannedPool,
  store: Store,
  vxlan: boolean,
): Promise<void> {
  const mode = vxlan ? { vxlanMode: 'Always' } : {};
  const pool = parseResource('IPPool', {
    ...{ kind: 'IPPool', apiVersion, metadata: { name } },
    spec: { cidr, blockSize, nodeSelector, natOutgoing: true, ...mode },
  });
  const { outcome } = await store.create({ type: 'IPPool', name }, pool);
  if (outcome !== 'written') throw new TakenError(`IPPool ${name} was made by somebody else`);
}
