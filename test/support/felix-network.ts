import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { createMemoryStore, type MemoryStore } from '../../src/datastore/memory.ts';
import { type Key, keyText, type Value } from '../../src/datastore/store.ts';
import { Felix } from '../../src/felix/main.ts';
import { RenderedPolicy } from '../../src/felix/policy.ts';
import { TunnelReport } from '../../src/felix/tunnel-report.ts';
import { openConntrack } from '../../src/kernel/conntrack.ts';
import { createIpsets } from '../../src/kernel/ipset.ts';
import { createIptables } from '../../src/kernel/iptables/driver.ts';
import { inNamespace, openNetlinkIn, warmThreads } from '../../src/kernel/namespace.ts';
import { writeSysctl } from '../../src/kernel/sysctl.ts';
import { KernelError, type Netlink } from '../../src/kernel/types.ts';
import { openUdpTunnel } from '../../src/kernel/udp-tunnel.ts';
import { Namespace } from '../dataplane/felix/support.ts';
import { configured, silent } from '../unit/felix/support.ts';

/** The node's side of a pod's device, whatever its name. */
const hostMac = 'ee:ee:ee:ee:ee:ee';

/**
 * Nodes on one wire, each in a namespace with a felix of its own, and one datastore for all. The wire is a bridge in a
 * namespace that also routes between the subnets 192.0.2.0/24 and 198.51.100.0/24, itself .254 in both.
 */
export class FelixNetwork {
  readonly store: MemoryStore = createMemoryStore();
  readonly #nodes: FelixNode[] = [];

  private constructor(readonly wire: Namespace) {}

  static async make(): Promise<FelixNetwork> {
    warmThreads();
    const wire = await Namespace.make('wire');
    await shell(
      wire,
      'ip link add br0 type bridge',
      'ip address add 192.0.2.254/24 dev br0',
      'ip address add 198.51.100.254/24 dev br0',
      'ip link set br0 up',
      'echo 1 >/proc/sys/net/ipv4/ip_forward',
      'echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects',
      'echo 0 >/proc/sys/net/ipv4/conf/br0/send_redirects',
    );
    return new FelixNetwork(wire);
  }

  /** A node whose uplink `up0` has the address; its end on the wire is `w<name>`. */
  async addNode(name: string, address: string): Promise<FelixNode> {
    const node = new FelixNode(name, await Namespace.make(name), this.store);
    this.#nodes.push(node);
    const { namespace } = node;
    await shell(
      namespace,
      `ip link add up0 type veth peer name w${name} netns ${this.wire.name}`,
      'ip link set up0 up',
    );
    await node.move(address);
    await shell(this.wire, `ip link set w${name} master br0`, `ip link set w${name} up`);
    return node;
  }

  async put(key: Key, value: Value<Key['type']>): Promise<void> {
    const before = await this.store.get(key);
    const outcome = before ? await this.store.update(key, value, before.revision) : await this.store.create(key, value);
    if (outcome.outcome !== 'written') throw new Error(`${keyText(key)}: ${outcome.outcome}`);
  }

  async dispose(): Promise<void> {
    for (const node of this.#nodes) await node.dispose();
    await this.wire.dispose();
  }
}

export class FelixNode {
  readonly #runDir = mkdtempSync(path.join(tmpdir(), 'felix-'));
  readonly #stop = new AbortController();
  readonly #pods: Namespace[] = [];
  #running: Promise<unknown> | undefined;
  #sockets: readonly { close(): void }[] = [];
  #felix: Felix | undefined;

  constructor(
    readonly name: string,
    readonly namespace: Namespace,
    private readonly store: MemoryStore,
  ) {}

  /** @throws Error before `start` */
  get felix(): Felix {
    if (!this.#felix) throw new Error(`${this.name} has not been started`);
    return this.#felix;
  }

  /**
   * Felix without a BGP speaker, and what tells the others of the kernel's tunnels.
   * @param ipip false: as if the kernel had none; so with VXLAN
   */
  start({ ipip = true, vxlan = true } = {}): Felix {
    const { store, name } = this;
    const space = this.namespace.path;
    const launcher = ['nsenter', `--net=${space}`];
    const driver = { backend: 'nft', log: silent, launcher } as const;
    const refused = [...(ipip ? [] : ['addIpip']), ...(vxlan ? [] : ['addVxlan'])];
    const netlink = refusing(openNetlinkIn(space), refused);
    const conntrack = inNamespace(space, openConntrack);
    this.#sockets = [netlink, conntrack];
    const config = configured({ ipv6Support: false, checkSeconds: 0 });
    const felix = new Felix({
      ...{ store, netlink, config, bgp: false, nodename: name, runDir: this.#runDir, clock: systemClock, log: silent },
      iptables: { 4: createIptables({ ...driver, family: 4 }) },
      ipsets: createIpsets({ log: silent, launcher }),
      // As a node finds out that its kernel has no NFLOG: the guest's has none loaded.
      policy: new RenderedPolicy(name, config, silent, false),
      deleteFlows: (addresses) => conntrack.deleteFlows(addresses),
      writeSysctl: (key, value, unread) => void inNamespace(space, () => writeSysctl(key, value, unread)),
      openUdpTunnel: (request, onEnd) => openUdpTunnel(request, onEnd, (action) => inNamespace(space, action)),
    });
    const report = new TunnelReport({ store, node: name, clock: systemClock, log: silent });
    felix.onUpdate((update) => report.consume(update));
    felix.onTunnelSupport((lacking) => report.lacks(lacking));
    this.#felix = felix;
    this.#running = Promise.all([felix.run(this.#stop.signal), report.run(this.#stop.signal)]);
    return felix;
  }

  /** Gives the uplink another address, and a way to the other subnets. */
  async move(address: string): Promise<void> {
    await shell(
      this.namespace,
      'ip address flush dev up0 scope global',
      `ip address add ${address} dev up0`,
      `ip route replace default via ${address.replace(/\.\d+\/.*/, '.254')}`,
    );
  }

  /** A pod's side as the CNI plugin leaves it. */
  async addPod(device: string, address: string): Promise<Namespace> {
    const pod = await Namespace.make('pod');
    this.#pods.push(pod);
    const pair = `ip link add ${device} address ${hostMac} type veth peer name eth0 netns ${pod.name}`;
    await shell(this.namespace, pair);
    await shell(
      pod,
      'ip link set eth0 up',
      `ip address add ${address}/32 dev eth0`,
      'ip route add 169.254.1.1 dev eth0 scope link',
      `ip neighbour add 169.254.1.1 lladdr ${hostMac} dev eth0 nud permanent`,
      'ip route add default via 169.254.1.1 dev eth0',
    );
    return pod;
  }

  /** What `ip` says, in this node. */
  ip(...words: readonly string[]): Promise<string> {
    return this.namespace.exec('ip', ...words);
  }

  /** The rules of filter with their packet counts. */
  rules(): Promise<string> {
    return this.namespace.exec('iptables-nft-save', '-c', '-t', 'filter');
  }

  async dispose(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    for (const socket of this.#sockets) socket.close();
    for (const namespace of [...this.#pods, this.namespace]) await namespace.dispose();
    rmSync(this.#runDir, { recursive: true });
  }
}

/** Runs commands one after the other in one shell: in a slow guest each process counts. */
export async function shell(namespace: Namespace, ...commands: readonly string[]): Promise<void> {
  await namespace.exec('sh', '-ec', commands.join('\n'));
}

/** The same kernel, which answers some calls as one does that lacks their module. */
function refusing(netlink: Netlink, calls: readonly string[]): Netlink {
  return new Proxy(netlink, {
    get(target, name) {
      if (typeof name === 'string' && calls.includes(name))
        return () => {
          throw new KernelError(name, 'EOPNOTSUPP');
        };
      const found: unknown = Reflect.get(target, name, target);
      return typeof found === 'function' ? found.bind(target) : found;
    },
  });
}
