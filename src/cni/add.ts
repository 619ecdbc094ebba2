import { randomBytes, randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { explain } from '../base/errors.ts';
import { type Entry, keyText, type Write } from '../datastore/store.ts';
import { WriteConflictError } from '../ipam/errors.ts';
import type { Link } from '../kernel/types.ts';
import type { Family, Ip } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { type CniContext, type Place, placeOf, type Working } from './context.ts';
import { addressesOf, buildEndpoint } from './endpoint.ts';
import { CniError, cniCodes, cniErrorOf } from './error.ts';
import { meanwhile } from './meanwhile.ts';
import { handleId } from './names.ts';
import type { Announcement, PodNamespace } from './ports.ts';
import { aborted } from './queue.ts';
import { removeContainer } from './remove.ts';
import type { CniRequest } from './request.ts';
import { formatResult } from './result.ts';
import { configurePod, createVeth, createVethAside, faults, type VethPlan } from './veth.ts';

/*
 * ADD. The address, its handle and the endpoint are one transaction. While it is on its way felix makes the pod's chains
 * and the pair of devices is made; the answer waits until felix has the pod's routes and policy in the kernel. Whatever
 * fails takes all of it back.
 */

export type AddRequest = Extract<CniRequest, { verb: 'ADD' | 'CHECK' }>;

const policyTimeoutMs = 10_000;
/** Undoing goes on when the runtime has gone away; this bounds it. */
const undoTimeoutMs = 10_000;

interface Work {
  readonly context: Working;
  readonly request: AddRequest;
  readonly place: Place;
  readonly plan: VethPlan;
  readonly pod: PodNamespace;
  readonly signal: AbortSignal;
  /** The device of this pod's name is of our making. */
  linked: boolean;
  /** Until the pair of devices is made, or is known not to be. */
  making?: Promise<readonly [PromiseSettledResult<Link | undefined>]>;
  /** The host's end of a pair made by this ADD. */
  hostEnd?: Link | undefined;
  /** Addresses that are in the pod, or are to be when the transaction goes through. */
  configured?: readonly Ip[];
  announced?: Announcement | undefined;
  /** The endpoint as the transaction stored it. */
  written?: { readonly value: WorkloadEndpoint; readonly revision: string };
}

interface Assigned {
  readonly addresses: readonly Ip[];
  /** Of the endpoint as written. */
  readonly revision: string;
}

/** @returns the result for standard output. @throws CniError, KernelError, StoreUnavailableError; nothing is left then */
export async function add(context: Working, request: AddRequest, signal: AbortSignal): Promise<string> {
  const { containerId, network, ifName, netns } = request;
  const place = placeOf(context, request.pod, containerId, network.name, ifName);
  requireFitting(context, request, place);
  const pod = context.openPod(netns);
  try {
    await context.gate.requireReady();
    const plan = {
      hostDevice: place.hostDevice,
      ifName,
      netns,
      mtu: network.mtu ?? context.config.mtu,
      mac: request.facts?.mac ?? randomMac(),
    };
    const work: Work = { context, request, place, plan, pod, signal, linked: false };
    return context.netlink.link(plan.hostDevice) ? await addKnown(work) : await addNew(work);
  } finally {
    pod.close();
  }
}

/**
 * The common case: the kernel has no device of the pod's, so the datastore is taken to know nothing of it either, and the
 * transaction finds out without being asked before. It does know the pod when the node was started anew. The transaction
 * takes longest, so everything else comes after it is sent, the pod's namespace included.
 */
async function addNew(work: Work): Promise<string> {
  try {
    return await undoing(work, async () => {
      let proposed: readonly Ip[] | undefined;
      const assigning = assign(work, undefined, (addresses) => {
        proposed = addresses;
      });
      const ready = meanwhile(assigning, () => prepare(work, () => proposed));
      return finish(work, await assigned(assigning, ready));
    });
  } catch (thrown) {
    if (!(thrown instanceof WriteConflictError)) throw thrown;
    return addKnown({ ...work, linked: false, hostEnd: undefined, configured: [], announced: undefined });
  }
}

/** An endpoint that is stored already says more than what came of going on without knowing of it. */
async function assigned(assigning: Promise<Assigned>, ready: Promise<Assigned>): Promise<Assigned> {
  try {
    return await ready;
  } catch (thrown) {
    await assigning;
    throw thrown;
  }
}

/** What needs no answer of the datastore: felix's rules for the pod, and its side of the pair of devices. */
async function prepare(work: Work, proposed: () => readonly Ip[] | undefined): Promise<void> {
  const { context, plan, place, pod } = work;
  work.linked = true;
  work.making = Promise.allSettled([createVethAside(context.netlink, plan)]);
  // What policy selects it by is known before only where the endpoint is stored as it is told here.
  if (context.store.atomic) work.announced = context.felix.announce(place.key, endpointOf(work, []), familiesOf(work));
  confirm(work);
  // Felix begins in the next turn, and the kernel takes its rules while the pod is configured in the one after.
  await setImmediate();
  await setImmediate();
  await made(work);
  const addresses = proposed();
  if (addresses === undefined) return;
  configurePod(context.netlink, pod, plan, addresses, work.hostEnd);
  work.configured = addresses;
}

/** @throws KernelError when the pair of devices was not made */
async function made(work: Work): Promise<void> {
  const [outcome] = (await work.making) ?? [];
  if (outcome?.status === 'rejected') {
    requireFreeName(work);
    throw outcome.reason;
  }
  if (outcome) tell(work, outcome.value);
}

/** Makes the pair of devices here and now. @throws KernelError */
function make(work: Work): void {
  work.linked = true;
  tell(work, createVeth(work.context.netlink, work.plan));
}

function tell(work: Work, hostEnd: Link | undefined): void {
  work.hostEnd = hostEnd;
  if (hostEnd) work.context.felix.deviceMade(hostEnd);
}

/** The pod has an endpoint or a device: of this container, then ADD is repeated, or of an earlier one. */
async function addKnown(work: Work): Promise<string> {
  const { context, request, place, pod } = work;
  // A namespace that cannot be entered is told of before there is anything to take back.
  void pod.netlink;
  const existing = await context.store.get(place.key);
  const owner = existing?.value.spec.containerID;
  if (existing !== undefined && owner === request.containerId) {
    const plan = { ...work.plan, mac: existing.value.spec.mac ?? work.plan.mac };
    const again: Work = { ...work, plan };
    return undoing(again, () => repeat(again, existing));
  }
  return takeOver(work, existing);
}

/**
 * A new container of a pod takes over the endpoint and device of the earlier one, which keeps both until the new one
 * has an address. The earlier one's address is freed once felix has forgotten it.
 */
async function takeOver(work: Work, earlier: Entry<'WorkloadEndpoint'> | undefined): Promise<string> {
  const { context, request } = work;
  requireFreeName(work);
  const owner = earlier?.value.spec.containerID;
  const dispossess = async () => {
    if (owner && work.linked) await context.ipam.release({ handle: handleId(request.network.name, owner) });
  };
  try {
    return await undoing(work, async () => {
      const assigned = await assign(work, earlier);
      make(work);
      return finish(work, assigned);
    });
  } finally {
    await dispossess().catch((thrown: unknown) =>
      context.log.warn({ container: owner, err: thrown }, "an earlier container's address is not freed; its DEL will"),
    );
  }
}

/** ADD said again for the same container: the same answer, after mending what is missing. */
async function repeat(work: Work, stored: Entry<'WorkloadEndpoint'>): Promise<string> {
  const { context, plan, pod } = work;
  const addresses = addressesOf(stored.value);
  if (faults(context.netlink, pod, plan, addresses).length > 0) {
    work.linked = true;
    if (context.netlink.link(plan.hostDevice) === undefined || pod.netlink.link(plan.ifName) === undefined) make(work);
  }
  return finish(work, { addresses, revision: stored.revision });
}

/**
 * Address, handle and endpoint in one transaction.
 * @param propose told the addresses of each try before it is sent
 * @throws WriteConflictError when the endpoint is not as `earlier`
 */
async function assign(
  work: Work,
  earlier: Entry<'WorkloadEndpoint'> | undefined,
  propose?: (addresses: readonly Ip[]) => void,
): Promise<Assigned> {
  const { context, request, place, signal } = work;
  let value: WorkloadEndpoint | undefined;
  const extra = (assigned: readonly { readonly address: Ip }[]): Write[] => {
    const addresses = assigned.map(({ address }) => address);
    propose?.(addresses);
    value = endpointOf(work, addresses, earlier?.value.metadata.uid);
    return earlier === undefined
      ? [{ op: 'create', key: place.key, value }]
      : [{ op: 'update', key: place.key, value, revision: earlier.revision }];
  };
  let revision = '';
  const assigned = await context.ipam.assign(
    {
      handle: place.handle,
      families: familiesOf(work),
      attributes: { namespace: request.pod.namespace, pod: request.pod.name },
      ...wishesOf(request),
      extra,
      onWritten: ([written]) => {
        revision = written ?? '';
        if (value) work.written = { value, revision };
        confirm(work);
      },
    },
    signal,
  );
  return { addresses: assigned.map(({ address }) => address), revision };
}

/** Where the addresses are to be from. */
function wishesOf({ network: { poolsOf }, facts }: AddRequest) {
  const pools = [...poolsOf[4], ...poolsOf[6]];
  return {
    ...(pools.length > 0 && { pools }),
    ...(facts?.addresses && { addresses: facts.addresses }),
    ...(facts && { namespaceLabels: facts.namespaceLabels }),
  };
}

/** Felix is told of the stored endpoint, whichever of the two comes first: the announcement or the datastore's answer. */
function confirm({ announced, written }: Work): void {
  if (written) announced?.confirm(written.value, written.revision);
}

function endpointOf({ context, request, place, plan }: Work, addresses: readonly Ip[], uid?: string): WorkloadEndpoint {
  return buildEndpoint({
    node: context.nodename,
    name: place.key.name,
    pod: request.pod,
    attachment: request,
    interfaceName: place.hostDevice,
    mac: plan.mac,
    addresses,
    uid: uid ?? randomUUID(),
    now: context.clock.wall(),
  });
}

function familiesOf({ context, request }: Work): readonly Family[] {
  return request.network.families ?? context.config.families;
}

/** The pod's side, felix's, and the answer. */
async function finish(work: Work, { addresses, revision }: Assigned): Promise<string> {
  const { context, request, place, plan, pod, signal } = work;
  if (!sameAddresses(work.configured, addresses)) {
    // The addresses proposed first are in the pod; it gets a fresh device rather than a used one.
    if (work.configured !== undefined && work.configured.length > 0) make(work);
    configurePod(context.netlink, pod, plan, addresses, work.hostEnd);
  }
  const limit = request.network.policyTimeoutMs ?? context.config.policyTimeoutMs ?? policyTimeoutMs;
  if ((await context.felix.whenProgrammed(keyText(place.key), revision, limit, signal)) === 'timeout') {
    if (signal.aborted) throw aborted();
    throw new CniError(cniCodes.tryAgain, `the pod's policy was not in the kernel within ${limit} ms`);
  }
  return formatResult(request.network, { ...plan, addresses });
}

/**
 * Runs `make`; when it fails, takes back what it made and rejects with its error. After a WriteConflictError nothing
 * of this ADD is in the datastore, and what is there is another's.
 */
async function undoing(work: Work, make: () => Promise<string>): Promise<string> {
  const { context, place } = work;
  try {
    return await make();
  } catch (thrown) {
    work.announced?.withdraw();
    await work.making;
    try {
      if (work.linked) context.netlink.deleteLink(place.hostDevice);
      if (!(thrown instanceof WriteConflictError)) {
        await removeContainer(context, place, AbortSignal.timeout(undoTimeoutMs));
      }
    } catch (second) {
      context.log.error({ place: place.key.name, err: second }, 'a failed ADD could not be taken back; DEL will');
      const { code } = cniErrorOf(thrown);
      throw new CniError(code, explain(thrown), `taking it back failed too: ${explain(second)}`, {
        cause: thrown,
      });
    }
    throw thrown;
  }
}

function sameAddresses(a: readonly Ip[] | undefined, b: readonly Ip[]): boolean {
  return a?.length === b.length && b.every((address, at) => a[at] === address);
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

/** Locally administered, unicast. IEEE 802 §8.2. */
function randomMac(): string {
  const octets = randomBytes(6);
  octets[0] = ((octets[0] ?? 0) & 0xfc) | 0x02;
  return octets.toString('hex').replace(/..(?=.)/g, '$&:');
}
