import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../../../src/base/clock.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import { type Key, keyText, type Store, type Value } from '../../../src/datastore/store.ts';
import type { FelixConfig } from '../../../src/felix/config.ts';
import { Felix } from '../../../src/felix/main.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { countKernelCalls } from '../../../src/kernel/calls.ts';
import { type Conntrack, openConntrack } from '../../../src/kernel/conntrack.ts';
import { cpuMilliseconds } from '../../../src/kernel/cpu.ts';
import { createIpsets } from '../../../src/kernel/ipset.ts';
import type { Backend } from '../../../src/kernel/iptables/backend.ts';
import { createIptables } from '../../../src/kernel/iptables/driver.ts';
import { inNamespace, openNetlinkIn, warmThreads } from '../../../src/kernel/namespace.ts';
import { startMonitor } from '../../../src/kernel/rtnetlink/monitor.ts';
import { NetlinkSocket } from '../../../src/kernel/rtnetlink/socket.ts';
import { writeSysctl } from '../../../src/kernel/sysctl.ts';
import type { KernelEvent, Netlink } from '../../../src/kernel/types.ts';
import { openUdpTunnel } from '../../../src/kernel/udp-tunnel.ts';
import { ownName } from '../../support/leftovers.ts';
import { configured, node, silent } from '../../unit/felix/support.ts';

const run = promisify(execFile);

/** A network namespace of its own for a test. */
export class Namespace {
  readonly path: string;

  private constructor(readonly name: string) {
    this.path = `/run/netns/${name}`;
  }

  static async make(role: string): Promise<Namespace> {
    const made = new Namespace(ownName(`fx-${role}`));
    await run('ip', ['netns', 'add', made.name]);
    await made.exec('ip', 'link', 'set', 'lo', 'up');
    return made;
  }

  /** Runs a program inside. Rejects when it fails; resolves with its output. */
  async exec(...command: readonly string[]): Promise<string> {
    const { stdout } = await run('nsenter', [`--net=${this.path}`, ...command]);
    return stdout;
  }

  /** Whether a program inside succeeds. */
  async succeeds(...command: readonly string[]): Promise<boolean> {
    return this.exec(...command).then(
      () => true,
      () => false,
    );
  }

  async dispose(): Promise<void> {
    await run('ip', ['netns', 'delete', this.name]);
  }
}

/** A node: its namespace, a router beyond its uplink, and felix on real drivers and a memory store. */
export class RealNode {
  readonly store: MemoryStore = createMemoryStore();
  readonly runDir = mkdtempSync(path.join(tmpdir(), 'felix-'));
  readonly config: FelixConfig;
  felix: Felix | undefined;
  /** Octets of the kernel's queue of events at the next start; undefined: the usual. */
  eventBuffer: number | undefined;
  /** Processor time that felix takes for its own; a test whose programs run all the time would be counted with it. */
  cpuMilliseconds: () => number = cpuMilliseconds;
  /** How often events were lost. */
  overruns = 0;
  /** What was written to the kernel since the last start, one text each. */
  writes: string[] = [];
  #stop = new AbortController();
  #running: Promise<void> | undefined;
  #netlink: Netlink | undefined;
  #conntrack: Conntrack | undefined;
  #calls = countKernelCalls();
  readonly #pods: Namespace[] = [];

  private constructor(
    readonly namespace: Namespace,
    readonly router: Namespace,
    public backend: Backend,
    overrides: Partial<FelixConfig>,
  ) {
    this.config = configured(overrides);
  }

  /** Uplink `up0` has 192.0.2.1/24 and 2001:db8::1/64, the router 192.0.2.2 and .3, 2001:db8::2. */
  static async make(backend: Backend, overrides: Partial<FelixConfig> = {}): Promise<RealNode> {
    warmThreads();
    const [namespace, router] = [await Namespace.make('node'), await Namespace.make('router')];
    await namespace.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'r0', 'netns', router.name);
    for (const [space, device, last] of [
      [namespace, 'up0', '1'],
      [router, 'r0', '2'],
    ] as const) {
      await space.exec('ip', 'address', 'add', `192.0.2.${last}/24`, 'dev', device);
      await space.exec('ip', 'address', 'add', `2001:db8::${last}/64`, 'dev', device, 'nodad');
      await space.exec('ip', 'link', 'set', device, 'up');
    }
    await router.exec('ip', 'address', 'add', '192.0.2.3/24', 'dev', 'r0');
    return new RealNode(namespace, router, backend, overrides);
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** @param store what felix is given for this node's store */
  start(store: Store = this.store): Felix {
    this.#stop = new AbortController();
    const launcher = ['nsenter', `--net=${this.namespace.path}`];
    this.writes = [];
    this.#calls = countKernelCalls();
    const driver = { backend: this.backend, log: silent, launcher, calls: this.#calls } as const;
    this.#netlink = recording(this.#withBuffer(openNetlinkIn(this.namespace.path)), this.writes);
    const conntrack = inNamespace(this.namespace.path, openConntrack);
    this.#conntrack = conntrack;
    this.felix = new Felix({
      store,
      netlink: this.#netlink,
      iptables: { 4: createIptables({ ...driver, family: 4 }), 6: createIptables({ ...driver, family: 6 }) },
      ipsets: createIpsets({ log: silent, launcher, calls: this.#calls }),
      policy: new RenderedPolicy(node, this.config, silent),
      deleteFlows: (addresses) => conntrack.deleteFlows(addresses),
      writeSysctl: (name, value, unread) => {
        if (inNamespace(this.namespace.path, () => writeSysctl(name, value, unread)))
          this.writes.push(`${name}=${value}`);
      },
      openUdpTunnel: (request, onEnd) =>
        openUdpTunnel(request, onEnd, (action) => inNamespace(this.namespace.path, action)),
      nodename: node,
      runDir: this.runDir,
      config: this.config,
      cpuMilliseconds: this.cpuMilliseconds,
      clock: systemClock,
      log: silent,
    });
    this.#running = this.felix.run(this.#stop.signal);
    return this.felix;
  }

  /** How much the programs of iptables and ipset were given since the last start. */
  get restored(): { readonly restores: number; readonly iptablesLines: number; readonly ipsetLines: number } {
    const { restore, lines, ipsetLines } = this.#calls;
    const iptablesLines = [...lines.values()].reduce((sum, count) => sum + count, 0);
    return { restores: restore.calls, iptablesLines, ipsetLines };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#running = undefined;
    this.#netlink?.close();
    this.#netlink = undefined;
    this.#conntrack?.close();
    this.#conntrack = undefined;
  }

  async put(key: Key, value: Value<Key['type']>): Promise<string> {
    const before = await this.store.get(key);
    const outcome = before ? await this.store.update(key, value, before.revision) : await this.store.create(key, value);
    if (outcome.outcome !== 'written') throw new Error(`${keyText(key)}: ${outcome.outcome}`);
    return outcome.entry.revision;
  }

  /** A pod's side as the CNI plugin leaves it: the pair, the address, the way out. */
  async addPod(device: string, address: string): Promise<Namespace> {
    const pod = await Namespace.make('pod');
    this.#pods.push(pod);
    const { namespace } = this;
    const mac = 'ee:ee:ee:ee:ee:ee';
    await namespace.exec(
      'ip',
      'link',
      'add',
      device,
      'address',
      mac,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      pod.name,
    );
    await pod.exec('ip', 'link', 'set', 'eth0', 'up');
    await pod.exec('ip', 'address', 'add', `${address}/32`, 'dev', 'eth0');
    await pod.exec('ip', 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
    await pod.exec('ip', 'neighbour', 'add', '169.254.1.1', 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    await pod.exec('ip', 'route', 'add', 'default', 'via', '169.254.1.1', 'dev', 'eth0');
    return pod;
  }

  async routes(family: '-4' | '-6' = '-4'): Promise<string[]> {
    const text = await this.namespace.exec('ip', family, 'route', 'show', 'proto', '80');
    return text.split('\n').map((line) => line.trim());
  }

  /** Rules with their counters, without the save's dates. */
  async saved(program: 'iptables' | 'ip6tables', ...options: string[]): Promise<string> {
    const text = await this.namespace.exec(`${program}-${this.backend}-save`, ...options);
    return text.replace(/^#.*\n/gm, '');
  }

  iptables(...command: string[]): Promise<string> {
    return this.namespace.exec(`iptables-${this.backend}`, '-w', ...command);
  }

  /** The same driver with a smaller queue for the kernel's events, if one is asked for. */
  #withBuffer(netlink: Netlink): Netlink {
    const bufferBytes = this.eventBuffer;
    if (bufferBytes === undefined) return netlink;
    const socket = inNamespace(this.namespace.path, () => new NetlinkSocket());
    const monitor: Netlink['monitor'] = (onEvent, signal) => {
      const counting = (event: KernelEvent) => {
        if (event.what === 'overrun') this.overruns++;
        onEvent(event);
      };
      signal.addEventListener('abort', () => socket.close(), { once: true });
      return startMonitor(socket.fd, netlink, counting, signal, { bufferBytes, queueLimit: 65_536 });
    };
    return new Proxy(netlink, {
      get(target, name) {
        if (name === 'monitor') return monitor;
        const found: unknown = Reflect.get(target, name, target);
        return typeof found === 'function' ? found.bind(target) : found;
      },
    });
  }

  succeedsPing(address: string): Promise<boolean> {
    return this.namespace.succeeds('ping', '-c1', '-W2', address);
  }

  /** Takes away all that does not outlive a boot: pods' devices, rules, sets, routes and tunnels. */
  async reboot(): Promise<void> {
    for (const pod of this.#pods.splice(0)) await pod.dispose();
    for (const program of ['iptables', 'ip6tables'])
      for (const table of ['filter', 'nat', 'raw'])
        for (const action of ['-F', '-X'])
          await this.namespace.exec(`${program}-${this.backend}`, '-w', '-t', table, action);
    await this.namespace.exec('ipset', 'destroy');
    await this.namespace.exec('ip', 'route', 'flush', 'proto', '80');
  }

  async dispose(): Promise<void> {
    await this.stop();
    for (const namespace of [this.namespace, this.router, ...this.#pods]) await namespace.dispose();
    rmSync(this.runDir, { recursive: true });
  }
}

/** The calls of a Netlink that change something. */
const changing = /^(add[A-Z]|delete|set|applyRoutes$|writeRoutes$)/;

/** The same driver, which notes what is written: calls that are refused or have nothing in their lists write nothing. */
function recording(netlink: Netlink, writes: string[]): Netlink {
  const size = (value: unknown): number => {
    if (Array.isArray(value)) return value.length;
    return typeof value === 'object' && value !== null && 'count' in value ? Number(value.count) : 1;
  };
  const listed = new Set(['applyRoutes', 'writeRoutes', 'setNeighbours', 'setForwardings']);
  return new Proxy(netlink, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name, target);
      if (typeof found !== 'function') return found;
      if (typeof name !== 'string' || !changing.test(name)) return found.bind(target);
      return (...given: readonly unknown[]): unknown => {
        const result: unknown = Reflect.apply(found, target, given);
        const items = name === 'applyRoutes' ? given : given.slice(1);
        if (!listed.has(name) || items.some((item) => size(item) > 0))
          writes.push(`${name} ${typeof given[0] === 'string' ? given[0] : ''}`.trim());
        return result;
      };
    },
  });
}
