import { type Entry, keyText } from '../datastore/store.ts';
import type { NetworkConfig } from './config.ts';
import { type CniContext, type Place, placeOf, type Working } from './context.ts';
import { CniError, cniCodes } from './error.ts';
import { meanwhile } from './meanwhile.ts';
import { handleId } from './names.ts';
import type { Pod } from './request.ts';

/*
 * DEL, GC and the undoing of a failed ADD. An address is free again only after its device, its endpoint and felix's
 * rules for it are gone, so that no later pod meets what was meant for an earlier one.
 */

const removalTimeoutMs = 5_000;
const mostConflicts = 20;

/** The only device of a pod that can be ours. */
export const podDevice = 'eth0';

/**
 * Removes what one container has: device, endpoint, address. What is gone already is success. The endpoint and device
 * of another container of the same pod stay; the address is freed all the same.
 */
export async function removeContainer(context: CniContext, place: Place, signal: AbortSignal): Promise<void> {
  const endpoint = await context.store.get(place.key);
  if (endpoint === undefined || ownedBy(endpoint, place.containerId)) {
    await meanwhile(deleteEndpoint(context, place, endpoint), () => context.netlink.deleteLink(place.hostDevice));
    if (endpoint !== undefined) await waitForFelix(context, place, signal);
  }
  await context.ipam.release({ handle: place.handle });
}

/** DEL of a container whose pod the runtime did not name: the endpoint tells it. */
export async function findPod(context: CniContext, containerId: string): Promise<Pod | undefined> {
  const { entries } = await context.store.list('WorkloadEndpoint');
  const found = entries.find(
    ({ value }) => value.spec.node === context.nodename && value.spec.containerID === containerId,
  );
  if (found === undefined || found.value.metadata.namespace === undefined) return undefined;
  return { namespace: found.value.metadata.namespace, name: found.value.spec.pod ?? '' };
}

/** GC: endpoints and addresses of this node and network that the runtime no longer knows. Returns the removed container IDs. */
export async function collectGarbage(
  context: Working,
  network: NetworkConfig,
  exclusively: (pod: Pod, task: () => Promise<void>) => Promise<void>,
  signal: AbortSignal,
): Promise<string[]> {
  if (network.validAttachments === undefined) {
    throw new CniError(cniCodes.config, 'cni.dev/valid-attachments: missing: expected the list of attachments to keep');
  }
  await context.gate.requireReady();
  const valid = new Set(network.validAttachments.map(({ containerID }) => containerID));
  const removed = new Set<string>();
  for (const { containerId, pod } of await containersOf(context, network.name)) {
    if (valid.has(containerId)) continue;
    signal.throwIfAborted();
    const place = placeOf(context, pod, containerId, network.name, podDevice);
    await exclusively(pod, () => removeContainer(context, place, signal));
    removed.add(containerId);
  }
  for (const containerId of (await context.ipam.containers?.(network.name)) ?? []) {
    if (valid.has(containerId)) continue;
    await context.ipam.release({ handle: handleId(network.name, containerId) });
    removed.add(containerId);
  }
  return [...removed];
}

interface Known {
  readonly containerId: string;
  readonly pod: Pod;
}

/** Containers of this node that hold an address of the network; an endpoint without an address is found by its own. */
async function containersOf(context: CniContext, network: string): Promise<Known[]> {
  const known = new Map<string, Known>();
  const blocks = await context.store.list('Block');
  for (const { value } of blocks.entries) {
    for (const { handle_id: handle, secondary } of value.attributes ?? []) {
      if (!handle?.startsWith(`${network}.`) || secondary?.['node'] !== context.nodename) continue;
      const { namespace, pod } = secondary;
      const containerId = handle.slice(network.length + 1);
      if (namespace && pod) known.set(containerId, { containerId, pod: { namespace, name: pod } });
    }
  }
  const endpoints = await context.store.list('WorkloadEndpoint');
  for (const { value } of endpoints.entries) {
    const { node, containerID: containerId, pod } = value.spec;
    const namespace = value.metadata.namespace;
    if (node !== context.nodename || !containerId || !pod || !namespace) continue;
    known.set(containerId, { containerId, pod: { namespace, name: pod } });
  }
  return [...known.values()];
}

function ownedBy(endpoint: Entry<'WorkloadEndpoint'>, containerId: string): boolean {
  const owner = endpoint.value.spec.containerID;
  return owner === undefined || owner === '' || owner === containerId;
}

async function deleteEndpoint(
  context: CniContext,
  place: Place,
  found: Entry<'WorkloadEndpoint'> | undefined,
): Promise<void> {
  let endpoint = found;
  for (let attempt = 0; endpoint !== undefined && ownedBy(endpoint, place.containerId); attempt++) {
    const { outcome } = await context.store.delete(place.key, endpoint.revision);
    if (outcome !== 'conflict') return;
    if (attempt === mostConflicts) {
      throw new CniError(
        cniCodes.tryAgain,
        `WorkloadEndpoint ${place.key.name}: changed ${mostConflicts} times while being deleted`,
      );
    }
    endpoint = await context.store.get(place.key);
  }
}

async function waitForFelix(context: CniContext, place: Place, signal: AbortSignal): Promise<void> {
  const limit = context.config.removalTimeoutMs ?? removalTimeoutMs;
  if ((await context.felix.whenRemoved(keyText(place.key), limit, signal)) === 'removed') return;
  context.log.warn(
    { endpoint: place.key.name, ms: limit },
    'felix has not confirmed the removal of the endpoint in time',
  );
}
