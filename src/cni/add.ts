import { randomBytes, randomUUID } from 'node:crypto';
import { explain } from '../base/errors.ts';
import { type Entry, keyText, type Write } from '../datastore/store.ts';
import type { Ip } from '../model/address.ts';
import { type CniContext, type Place, placeOf, requireReadyDatastore } from './context.ts';
import { addressesOf, buildEndpoint } from './endpoint.ts';
import { CniError, cniCodes } from './error.ts';
import type { PodNamespace } from './ports.ts';
import { aborted } from './queue.ts';
import { removeContainer } from './remove.ts';
import type { CniRequest } from './request.ts';
import { formatResult } from './result.ts';
import { configurePod, createVeth, faults, type VethPlan } from './veth.ts';

/*
 * ADD. The address, its handle and the endpoint are one transaction; the pair of devices is made while it is on its
 * way; the answer waits until felix has the pod's routes and policy in the kernel. Whatever fails takes all of it back.
 */

export type AddRequest = Extract<CniRequest, { verb: 'ADD' | 'CHECK' }>;

const policyTimeoutMs = 10_000;
/** Undoing goes on when the runtime has gone away; this bounds it. */
const undoTimeoutMs = 10_000;

interface Work {
  readonly context: CniContext;
  readonly request: AddRequest;
  readonly place: Place;
  readonly plan: VethPlan;
  readonly pod: PodNamespace;
  readonly signal: AbortSignal;
  /** The device of this pod's name is of our making. */
  linked: boolean;
}

/** @returns the result for standard output. @throws CniError, KernelError, StoreUnavailableError; nothing is left then */
export async function add(context: CniContext, request: AddRequest, signal: AbortSignal): Promise<string> {
  const { containerId, network, ifName, netns } = request;
  const place = placeOf(context, request.pod, containerId, network.name, ifName);
  requireFitting(context, request, place);
  const pod = context.openPod(netns);
  try {
    const [existing, held] = await Promise.all([
      context.store.get(place.key),
      context.ipam.byHandle(place.handle),
      requireReadyDatastore(context.store),
    ]);
    const again = existing?.value.spec.containerID === containerId;
    // A container that lost its endpoint to another of the same pod, and is back: it has one address of each family.
    if (!again && held.length > 0) await context.ipam.release({ handle: place.handle });
    const plan: VethPlan = {
      hostDevice: place.hostDevice,
      ifName,
      netns,
      mtu: network.mtu ?? context.config.mtu,
      mac: (again ? existing?.value.spec.mac : undefined) ?? randomMac(),
    };
    const work: Work = { context, request, place, plan, pod, signal, linked: false };
    return await undoing(work, () => (again && existing ? repeat(work, existing) : create(work, existing)));
  } finally {
    pod.close();
  }
}

/** First ADD of the container; an endpoint that is there belongs to an earlier container of the pod and is taken over. */
async function create(work: Work, earlier: Entry<'WorkloadEndpoint'> | undefined): Promise<string> {
  const { context, plan, pod } = work;
  requireFreeName(work);
  const link = () => {
    work.linked = true;
    createVeth(context.netlink, plan);
  };
  let assigned: readonly { address: Ip }[];
  if (earlier === undefined) {
    assigned = await meanwhile(assign(work, earlier), link);
  } else {
    // The earlier container keeps its device until the new one has an address.
    assigned = await assign(work, earlier);
    link();
  }
  const addresses = assigned.map(({ address }) => address);
  const stored = await meanwhile(context.store.get(work.place.key), () =>
    configurePod(context.netlink, pod, plan, addresses),
  );
  return finish(work, stored, addresses);
}

/** ADD said again for the same container: the same answer, after mending what is missing. */
async function repeat(work: Work, stored: Entry<'WorkloadEndpoint'>): Promise<string> {
  const { context, plan, pod } = work;
  const addresses = addressesOf(stored.value);
  if (faults(context.netlink, pod, plan, addresses).length > 0) {
    work.linked = true;
    if (context.netlink.link(plan.hostDevice) === undefined || pod.netlink.link(plan.ifName) === undefined) {
      createVeth(context.netlink, plan);
    }
    configurePod(context.netlink, pod, plan, addresses);
  }
  return finish(work, stored, addresses);
}

function assign(work: Work, earlier: Entry<'WorkloadEndpoint'> | undefined) {
  const { context, request, place, plan, signal } = work;
  const now = context.clock.wall();
  const extra = (assigned: readonly { readonly address: Ip }[]): Write[] => {
    const value = buildEndpoint({
      node: context.nodename,
      name: place.key.name,
      pod: request.pod,
      attachment: request,
      interfaceName: place.hostDevice,
      mac: plan.mac,
      addresses: assigned.map(({ address }) => address),
      uid: earlier?.value.metadata.uid ?? randomUUID(),
      now,
    });
    return earlier === undefined
      ? [{ op: 'create', key: place.key, value }]
      : [{ op: 'update', key: place.key, value, revision: earlier.revision }];
  };
  return context.ipam.assign(
    {
      handle: place.handle,
      families: request.network.families ?? context.config.families,
      attributes: { namespace: request.pod.namespace, pod: request.pod.name },
      ...(request.network.pools.length > 0 && { pools: request.network.pools }),
      extra,
    },
    signal,
  );
}

async function finish(
  work: Work,
  stored: Entry<'WorkloadEndpoint'> | undefined,
  addresses: readonly Ip[],
): Promise<string> {
  const { context, request, place, plan, signal } = work;
  if (stored?.value.spec.containerID !== request.containerId) {
    throw new CniError(
      cniCodes.tryAgain,
      `WorkloadEndpoint ${place.key.name}: changed by another while ADD was at work`,
    );
  }
  const limit = request.network.policyTimeoutMs ?? context.config.policyTimeoutMs ?? policyTimeoutMs;
  if ((await context.felix.whenProgrammed(keyText(place.key), stored.revision, limit, signal)) === 'timeout') {
    if (signal.aborted) throw aborted();
    throw new CniError(cniCodes.tryAgain, `the pod's policy was not in the kernel within ${limit} ms`);
  }
  return formatResult(request.network.cniVersion, { ...plan, addresses });
}

/** Runs `make`; when it fails, takes back what it made and rejects with its error. */
async function undoing(work: Work, make: () => Promise<string>): Promise<string> {
  const { context, place } = work;
  try {
    return await make();
  } catch (thrown) {
    try {
      if (work.linked) context.netlink.deleteLink(place.hostDevice);
      await removeContainer(context, place, AbortSignal.timeout(undoTimeoutMs));
    } catch (second) {
      context.log.error({ place: place.key.name, err: second }, 'a failed ADD could not be taken back; DEL will');
      throw new CniError(cniCodes.io, explain(thrown), `taking it back failed too: ${explain(second)}`, {
        cause: thrown,
      });
    }
    throw thrown;
  }
}

function requireFreeName({ pod, plan }: Work): void {
  if (pod.netlink.link(plan.ifName) === undefined) return;
  throw new CniError(
    cniCodes.config,
    `CNI_IFNAME: "${plan.ifName}": a device of this name is in ${plan.netns} already; expected a fresh namespace`,
  );
}

function requireFitting(context: CniContext, { network, pod }: AddRequest, place: Place): void {
  if (network.nodename !== undefined && network.nodename !== context.nodename) {
    throw new CniError(
      cniCodes.config,
      `nodename: "${network.nodename}": expected "${context.nodename}", the name of the agent's node, or no nodename`,
    );
  }
  if (place.key.name.length > 253) {
    throw new CniError(
      cniCodes.environment,
      `CNI_ARGS K8S_POD_NAME: "${pod.name}": expected a name that leaves the endpoint's name under 254 characters`,
    );
  }
}

/** Runs a synchronous action while `pending` is on its way; both are over when this settles, whichever fails. */
async function meanwhile<T>(pending: Promise<T>, action: () => void): Promise<T> {
  const settled = Promise.allSettled([pending]);
  try {
    action();
  } finally {
    await settled;
  }
  return pending;
}

/** Locally administered, unicast. IEEE 802 §8.2. */
function randomMac(): string {
  const octets = randomBytes(6);
  octets[0] = ((octets[0] ?? 0) & 0xfc) | 0x02;
  return [...octets].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
}
