import { strict as assert } from 'node:assert';
import pino from 'pino';
import { DeferringHandler } from '../../src/cni/deferring.ts';
import { CniHandler } from '../../src/cni/handler.ts';
import { hostDeviceName } from '../../src/cni/names.ts';
import type { OpenPod } from '../../src/cni/ports.ts';
import { RemovalQueue } from '../../src/cni/removals.ts';
import { createMemoryStore, type MemoryStore } from '../../src/datastore/memory.ts';
import { Ipam } from '../../src/ipam/allocator.ts';
import { audit } from '../../src/ipam/audit.ts';
import { readLists } from '../../src/ipam/audit-index.ts';
import type { Netlink } from '../../src/kernel/types.ts';
import { FakeFelix, request, run } from '../unit/cni/fakes.ts';
import { nodeValue, poolValue, TestClock } from './ipam.ts';
import { seeded } from './seeded.ts';

/*
 * CNI verbs in random sequences against a model of what a runtime may expect, with the real handler, allocator and queue
 * of DELs, on a memory store. Between verbs the datastore, the agent and the machine come and go.
 */

const log = pino({ level: 'silent' });
const network = 'k8s-pod-network';
const podNames = ['cart', 'web', 'db', 'mail'];

/** The machine under the agent. */
export interface Machine {
  readonly netlink: Netlink;
  readonly openPod: OpenPod;
  /** Makes a pod's namespace; its path. */
  add(): string;
  /** Takes it away; the pair of devices goes with it, now or a little later. */
  remove(netns: string): void;
}

interface Container {
  readonly id: string;
  readonly pod: string;
  readonly netns: string;
  /** Its namespace stands. */
  alive: boolean;
  /** What the last ADD answered, for CHECK. */
  result?: Record<string, unknown>;
}

/** What must be there. */
interface Expected {
  /** Pod → the container whose ADD was the last to succeed, until its DEL is done. */
  readonly owner: Map<string, Container>;
  readonly addresses: Map<string, readonly string[]>;
  /** Containers whose DEL was answered, but not done, oldest first. */
  readonly pending: Container[];
  /** Containers whose host device was torn away. */
  readonly torn: Set<string>;
}

export class CniModel {
  readonly #store: MemoryStore = createMemoryStore();
  readonly #felix = new FakeFelix();
  readonly #queue: RemovalQueue;
  readonly #clock = new TestClock();
  readonly #random: () => number;
  readonly #containers: Container[] = [];
  readonly #expected: Expected = { owner: new Map(), addresses: new Map(), pending: [], torn: new Set() };
  readonly #history: string[] = [];
  #handler: DeferringHandler;
  #count = 0;
  #storeUp = true;
  #agentUp = true;
  readonly #never = new AbortController().signal;

  /** @param folder for the DELs that wait */
  constructor(
    private readonly machine: Machine,
    folder: string,
    private readonly seed: number,
  ) {
    this.#random = seeded(seed);
    this.#queue = new RemovalQueue(folder, log);
    this.#handler = this.#start();
  }

  /** Does so many steps and looks at everything after each. @throws AssertionError with the seed and the last steps */
  async run(steps: number): Promise<void> {
    await this.#store.create({ type: 'Node', name: 'n1' }, nodeValue('n1'));
    await this.#store.create({ type: 'IPPool', name: 'four' }, poolValue('four', '10.64.0.0/27', { blockSize: 30 }));
    await this.#store.create({ type: 'IPPool', name: 'six' }, poolValue('six', 'fd00::/123', { blockSize: 126 }));
    try {
      for (let at = 0; at < steps; at++) {
        await this.#step();
        await this.#look();
      }
      await this.#end();
    } catch (thrown) {
      const last = this.#history.slice(-12).join('\n  ');
      throw new Error(`seed ${this.seed}, step ${this.#history.length}:\n  ${last}`, { cause: thrown });
    }
  }

  #start(): DeferringHandler {
    const ipam = new Ipam({ store: this.#store, node: 'n1', clock: this.#clock, log });
    const { netlink, openPod } = this.machine;
    const verbs = new CniHandler({
      ...{ store: this.#store, ipam, netlink, openPod, felix: this.#felix, nodename: 'n1', clock: this.#clock, log },
      config: { mtu: 1450, interfacePrefix: 'cali', families: [4, 6] },
    });
    return new DeferringHandler({ verbs, queue: this.#queue, clock: this.#clock, log });
  }

  async #step(): Promise<void> {
    const weighted: readonly (readonly [number, () => Promise<void>])[] = [
      [24, () => this.#add(this.#fresh())],
      [14, () => this.#add(this.#known() ?? this.#fresh())],
      [30, () => this.#delete(this.#known() ?? this.#fresh())],
      [10, () => this.#check(this.#known() ?? this.#fresh())],
      [3, () => this.#collect()],
      [2, () => this.#status()],
      [4, () => this.#tear()],
      [3, () => this.#endNamespace()],
      [4, () => this.#switchStore()],
      [4, () => this.#switchAgent()],
      [1, () => this.#reboot()],
    ];
    let at = this.#random() * weighted.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, action] of weighted) {
      at -= weight;
      if (at < 0) return action();
    }
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  #known(): Container | undefined {
    return this.#pick(this.#containers);
  }

  #fresh(): Container {
    const pod = this.#pick(podNames) ?? 'cart';
    const container = { id: `c${this.#count++}`, pod, netns: this.machine.add(), alive: true };
    this.#containers.push(container);
    const [oldest] = this.#containers;
    if (this.#containers.length > 12 && oldest) this.#forget(oldest);
    return container;
  }

  /** The runtime knows a container no more; what it has is for GC to find. */
  #forget(container: Container): void {
    this.#containers.splice(this.#containers.indexOf(container), 1);
    if (container.alive) this.machine.remove(container.netns);
    container.alive = false;
  }

  async #verb(verb: string, container: Container, more: { conf?: object; env?: Record<string, undefined> } = {}) {
    const { id, pod, netns } = container;
    const conf = { cniVersion: '1.1.0', ...more.conf };
    const call = { container: id, pod, netns, conf, ...(more.env && { env: more.env }) };
    this.#history.push(`${verb} ${id} of ${pod}${container.alive ? '' : ', namespace gone'}`);
    if (this.#agentUp) return run({ handler: this.#handler }, verb, call);
    // The launcher's part.
    if (verb !== 'DEL') return { exitCode: 1, answer: { code: verb === 'STATUS' ? 50 : 11 } };
    await this.#queue.add(request(verb, call));
    return { exitCode: 0, answer: {} };
  }

  async #add(container: Container): Promise<void> {
    const { owner, addresses, pending, torn } = this.#expected;
    const { exitCode, answer } = await this.#verb('ADD', container);
    if (!this.#agentUp) return assert.equal(answer['code'], 11);
    if (!this.#storeUp && pending.includes(container)) return assert.equal(answer['code'], 11);
    if (this.#storeUp) this.#settle(container);
    if (!container.alive) return assert.equal(answer['code'], 3);
    if (!this.#storeUp) return assert.equal(answer['code'], 11);
    assert.equal(exitCode, 0, JSON.stringify(answer));
    const given = (answer['ips'] as { address: string }[]).map(({ address }) => address);
    const before = owner.get(container.pod);
    if (before === container) assert.deepEqual(given, addresses.get(container.id), 'ADD again answers as before');
    else if (before) this.#lose(before);
    owner.set(container.pod, container);
    addresses.set(container.id, given);
    torn.delete(container.id);
    container.result = answer;
  }

  async #delete(container: Container): Promise<void> {
    const anonymous = this.#random() < 0.2;
    const env = anonymous ? { CNI_ARGS: undefined, CNI_NETNS: undefined } : undefined;
    const { exitCode, answer } = await this.#verb('DEL', container, env ? { env } : {});
    assert.equal(exitCode, 0, JSON.stringify(answer));
    if (this.#agentUp && this.#storeUp) this.#gone(container);
    else this.#expected.pending.push(container);
    if (this.#random() < 0.5) this.#forget(container);
  }

  async #check(container: Container): Promise<void> {
    const { owner, torn } = this.#expected;
    const prevResult = container.result ?? { ips: [] };
    const { exitCode, answer } = await this.#verb('CHECK', container, { conf: { prevResult } });
    if (!this.#agentUp || !this.#storeUp) return assert.equal(answer['code'], 11);
    const sound = owner.get(container.pod) === container && container.alive && !torn.has(container.id);
    assert.equal(exitCode === 0, sound, JSON.stringify(answer));
  }

  async #collect(): Promise<void> {
    const keep = this.#containers.filter(() => this.#random() < 0.8);
    const valid = keep.map(({ id }) => ({ containerID: id, ifname: 'eth0' }));
    const conf = { 'cni.dev/valid-attachments': valid };
    const any = this.#known() ?? this.#fresh();
    const { exitCode, answer } = await this.#verb('GC', any, { conf });
    if (!this.#agentUp || !this.#storeUp) return assert.equal(answer['code'], 11);
    assert.equal(exitCode, 0, JSON.stringify(answer));
    for (const container of [...this.#expected.owner.values()]) if (!keep.includes(container)) this.#gone(container);
  }

  async #status(): Promise<void> {
    const { exitCode, answer } = await this.#verb('STATUS', this.#known() ?? this.#fresh());
    if (this.#agentUp && this.#storeUp) assert.equal(exitCode, 0);
    else assert.equal(answer['code'], 50);
  }

  /** Somebody deletes a pod's device on the node. */
  async #tear(): Promise<void> {
    const container = this.#pick([...this.#expected.owner.values()]);
    const device = container && this.machine.netlink.links().find(({ name }) => name === deviceOf(container));
    if (container === undefined || device === undefined) return;
    this.#history.push(`device of ${container.id} torn away`);
    this.machine.netlink.deleteLink(device.name);
    this.#expected.torn.add(container.id);
  }

  /** A container's namespace ends before its DEL. */
  async #endNamespace(): Promise<void> {
    const container = this.#known();
    if (container === undefined) return;
    this.#history.push(`namespace of ${container.id} ends`);
    this.#forget(container);
    this.#containers.push(container);
  }

  async #switchStore(): Promise<void> {
    this.#storeUp = !this.#storeUp;
    this.#history.push(`datastore ${this.#storeUp ? 'back' : 'away'}`);
    if (!this.#storeUp) return this.#store.disconnect();
    this.#store.connect();
    // Sometimes an ADD comes before the agent has got to what waits.
    if (this.#agentUp && this.#random() < 0.6) await this.#drain();
  }

  async #switchAgent(): Promise<void> {
    this.#agentUp = !this.#agentUp;
    this.#history.push(`agent ${this.#agentUp ? 'up' : 'down'}`);
    if (!this.#agentUp) return;
    this.#handler = this.#start();
    if (this.#random() < 0.6) await this.#drain();
  }

  async #drain(): Promise<void> {
    const clear = await this.#handler.drain(this.#never);
    assert.equal(clear, this.#storeUp || this.#expected.pending.length === 0);
    if (!this.#storeUp) return;
    for (const container of this.#expected.pending.splice(0)) this.#gone(container);
  }

  /** Namespaces and devices are gone, the datastore and the disk are as they were. */
  async #reboot(): Promise<void> {
    this.#history.push('reboot');
    for (const { name } of this.machine.netlink.links())
      if (name.startsWith('cali')) this.machine.netlink.deleteLink(name);
    for (const container of [...this.#containers]) this.#forget(container);
    for (const container of this.#expected.owner.values()) this.#expected.torn.add(container.id);
    this.#agentUp = true;
    this.#handler = this.#start();
    await this.#drain();
  }

  /** What a DEL of the container takes away. */
  #gone(container: Container): void {
    if (this.#expected.owner.get(container.pod) !== container) return;
    this.#expected.owner.delete(container.pod);
    this.#lose(container);
  }

  #lose(container: Container): void {
    this.#expected.addresses.delete(container.id);
    this.#expected.torn.delete(container.id);
  }

  /** The DELs of a container that an ADD of it does first. */
  #settle(container: Container): void {
    const { pending } = this.#expected;
    if (!pending.includes(container)) return;
    pending.splice(0, pending.length, ...pending.filter((each) => each !== container));
    this.#gone(container);
  }

  async #look(): Promise<void> {
    const { owner, addresses, pending, torn } = this.#expected;
    assert.equal(new Set([...addresses.values()].flat()).size, [...addresses.values()].flat().length, 'given twice');
    const devices = this.machine.netlink.links().map(({ name }) => name);
    const owned = [...owner.values()];
    for (const container of owned)
      if (container.alive && !torn.has(container.id)) assert(devices.includes(deviceOf(container)), 'a device is gone');
    for (const name of devices)
      if (name.startsWith('cali'))
        assert(
          owned.some((each) => deviceOf(each) === name),
          `${name} is nobody's`,
        );
    assert.equal((await this.#queue.list()).length, pending.length);
    if (!this.#storeUp) return;
    const lists = await readLists(this.#store);
    const stored = (await this.#store.list('WorkloadEndpoint')).entries.map(({ value: { spec } }) => spec);
    const rows = stored.map(({ pod, containerID, ipNetworks }) => [pod, containerID, ipNetworks.toSorted()]);
    const wanted = owned.map(({ pod, id }) => [pod, id, addresses.get(id)?.toSorted()]);
    assert.deepEqual(rows.toSorted(), wanted.toSorted());
    const handles = lists.handles.entries.map(({ key }) => key.id).toSorted();
    assert.deepEqual(handles, owned.map(({ id }) => `${network}.${id}`).toSorted());
    assert.deepEqual(audit(lists, { now: this.#clock.wall(), graceSeconds: 0 }).findings, []);
  }

  /** Everything comes back, the runtime removes all it knows and has the rest collected: nothing is left. */
  async #end(): Promise<void> {
    if (!this.#storeUp) await this.#switchStore();
    if (!this.#agentUp) await this.#switchAgent();
    await this.#drain();
    const any = this.#known() ?? this.#fresh();
    for (const container of [...this.#containers]) await this.#verb('DEL', container);
    await this.#verb('GC', any, { conf: { 'cni.dev/valid-attachments': [] } });
    this.#expected.owner.clear();
    this.#expected.addresses.clear();
    await this.#look();
    for (const container of [...this.#containers]) this.#forget(container);
  }
}

function deviceOf({ pod }: Container): string {
  return hostDeviceName('cali', 'shop', pod);
}
