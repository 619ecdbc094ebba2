import pino from 'pino';
import { systemClock } from '../../../src/base/clock.ts';
import { CniError, cniCodes } from '../../../src/cni/error.ts';
import { type CniContext, CniHandler } from '../../../src/cni/handler.ts';
import type { AddressPool, Announcement, Assignment, Felix, OpenPod } from '../../../src/cni/ports.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import { type Key, keyText, type Store } from '../../../src/datastore/store.ts';
import { PoolExhaustedError, WriteConflictError } from '../../../src/ipam/errors.ts';
import { FakeKernel } from '../../../src/kernel/fake.ts';
import type { Link } from '../../../src/kernel/types.ts';
import { cidrOf, type Family, type Ip, ipBytes, ipFromNumber } from '../../../src/model/address.ts';

/** Addresses by handle, `size` of each family; the endpoint goes into the store with them. */
export class FakeIpam implements AddressPool {
  readonly held = new Map<string, Assignment[]>();
  /** Addresses in the order in which they were freed. */
  readonly freed: Ip[] = [];

  constructor(
    private readonly store: Store,
    public size = 64,
  ) {}

  async assign(request: Parameters<AddressPool['assign']>[0], signal: AbortSignal): Promise<Assignment[]> {
    signal.throwIfAborted();
    const assigned = request.families.map((family) => this.#free(family));
    const extra = request.extra?.(assigned) ?? [];
    const outcome = await this.store.transact(extra);
    if (outcome.outcome === 'conflict') {
      const lost = extra[outcome.failed];
      throw lost === undefined ? new TypeError('a conflict of no write') : new WriteConflictError(lost);
    }
    request.onWritten?.(outcome.revisions);
    this.held.set(request.handle, [...(this.held.get(request.handle) ?? []), ...assigned]);
    return assigned;
  }

  async release({ handle }: { readonly handle: string }): Promise<Ip[]> {
    const addresses = (this.held.get(handle) ?? []).map(({ address }) => address);
    this.held.delete(handle);
    this.freed.push(...addresses);
    return addresses;
  }

  async byHandle(handle: string): Promise<Assignment[]> {
    return this.held.get(handle) ?? [];
  }

  #free(family: Family): Assignment {
    const base = family === 4 ? 0x0a400000n : 0xfd000000000000000000000000000000n;
    const taken = new Set([...this.held.values()].flat().map(({ address }) => address));
    for (let ordinal = 0; ordinal < this.size; ordinal++) {
      const address = ipFromNumber(base + BigInt(ordinal), family);
      if (!taken.has(address))
        return { address, block: cidrOf(ipBytes(address), family === 4 ? 26 : 122), pool: 'default' };
    }
    throw new PoolExhaustedError(family, ['default']);
  }
}

/** Programs nothing and says that it did, unless told otherwise. */
export class FakeFelix implements Felix {
  programs = true;
  /** Endpoint and revision. */
  readonly programmed: [string, string][] = [];
  readonly removed: string[] = [];
  /** Called while an ADD waits. */
  onProgram: () => void = () => undefined;

  /** Names of devices that were told of. */
  readonly devices: string[] = [];

  deviceMade({ name }: Link): void {
    this.devices.push(name);
  }

  /** What became of each announcement. */
  readonly announced: [string, string][] = [];

  announce(key: Key<'WorkloadEndpoint'>): Announcement {
    const text = keyText(key);
    return {
      confirm: (value, revision) =>
        this.announced.push([text, `confirmed ${revision} ${value.spec.ipNetworks.join(' ')}`]),
      withdraw: () => this.announced.push([text, 'withdrawn']),
    };
  }

  async whenProgrammed(
    endpoint: string,
    revision: string,
    _ms: number,
    signal: AbortSignal,
  ): Promise<'programmed' | 'timeout'> {
    this.programmed.push([endpoint, revision]);
    this.onProgram();
    return this.programs && !signal.aborted ? 'programmed' : 'timeout';
  }

  async whenRemoved(endpoint: string): Promise<'removed' | 'timeout'> {
    this.removed.push(endpoint);
    return 'removed';
  }
}

export interface World {
  readonly kernel: FakeKernel;
  readonly store: MemoryStore;
  readonly ipam: FakeIpam;
  readonly felix: FakeFelix;
  readonly context: CniContext;
  readonly handler: CniHandler;
}

/** A handler on fakes; `families` both. */
export function world(options: { size?: number; families?: Family[] } = {}): World {
  const kernel = new FakeKernel();
  const store = createMemoryStore();
  const ipam = new FakeIpam(store, options.size);
  const felix = new FakeFelix();
  const context: CniContext = {
    store,
    ipam,
    netlink: kernel.host,
    openPod: fakePods(kernel),
    nodename: 'rack7-n3',
    felix,
    config: { mtu: 1450, interfacePrefix: 'cali', families: options.families ?? [4, 6] },
    clock: systemClock,
    log: pino({ level: 'silent' }),
  };
  return { kernel, store, ipam, felix, context, handler: new CniHandler(context) };
}

/** Opens the namespaces of a pretended machine. */
export function fakePods(kernel: FakeKernel): OpenPod {
  return (netns) => {
    if (!kernel.namespaces.has(netns)) {
      throw new CniError(cniCodes.unknownContainer, `CNI_NETNS: "${netns}": expected the path of a network namespace`);
    }
    return { netlink: kernel.open(netns), enableIpv6: () => undefined, close: () => undefined };
  };
}

export const conf: Readonly<Record<string, unknown>> = {
  cniVersion: '1.0.0',
  name: 'k8s-pod-network',
  type: 'margay',
  ipam: { type: 'calico-ipam' },
  policy: { type: 'k8s' },
};

export interface Call {
  readonly container?: string;
  readonly pod?: string;
  readonly netns?: string;
  readonly conf?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A request as kubelet's runtime makes it. */
export function request(verb: string, call: Call = {}): { env: Record<string, string>; stdin: string } {
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: call.container ?? '9c1f',
    CNI_NETNS: call.netns ?? '/run/netns/a',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${call.pod ?? 'cart-7d9'};K8S_POD_INFRA_CONTAINER_ID=x`,
    CNI_PATH: '/opt/cni/bin',
    ...call.env,
  };
  const given = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { env: Object.fromEntries(given), stdin: JSON.stringify({ ...conf, ...call.conf }) };
}

/** Runs a verb; the answer's JSON. */
export async function run(
  { handler }: { readonly handler: Pick<CniHandler, 'handle'> },
  verb: string,
  call: Call = {},
  signal = new AbortController().signal,
): Promise<{ exitCode: number; answer: Record<string, unknown> }> {
  const { exitCode, stdout } = await handler.handle(request(verb, call), signal);
  return { exitCode, answer: stdout === '' ? {} : (JSON.parse(stdout) as Record<string, unknown>) };
}
