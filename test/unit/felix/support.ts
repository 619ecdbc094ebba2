import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { type Entry, type Key, keyText, type Store, type Value } from '../../../src/datastore/store.ts';
import { type FelixConfig, readFelixConfig } from '../../../src/felix/config.ts';
import type { FelixDependencies } from '../../../src/felix/dependencies.ts';
import { Felix } from '../../../src/felix/main.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { FakeNetlink } from '../../../src/kernel/fake.ts';
import { FakeIpsets, FakeIptables } from '../../../src/kernel/fake-firewall.ts';
import { bits, cidrParts, type Ip, parseCidr } from '../../../src/model/address.ts';
import type { FeedMessage } from '../../../src/model/feed.ts';
import type { Block } from '../../../src/model/ipam.ts';
import { type Kind, parseResource, type ResourceOf } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';

/* Stored objects, and a whole felix on pretended drivers. */

export const node = 'n1';
export const silent = createLog('test', 'silent');

function resource<K extends Kind>(kind: K, metadata: object, spec: object): ResourceOf<K> {
  return parseResource(kind, { kind, apiVersion, metadata, spec });
}

export interface PodOptions {
  readonly addresses: readonly string[];
  readonly on?: string;
  readonly device?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly created?: string;
}

export function podKey(name: string): Key<'WorkloadEndpoint'> {
  return { type: 'WorkloadEndpoint', namespace: 'shop', name: `n1-k8s-${name}-eth0` };
}

export function pod(name: string, options: PodOptions): ResourceOf<'WorkloadEndpoint'> {
  const { addresses, on = node, device = `cali${name}`, labels = {}, created } = options;
  return resource(
    'WorkloadEndpoint',
    { name: podKey(name).name, namespace: 'shop', labels, ...(created && { creationTimestamp: created }) },
    {
      orchestrator: 'k8s',
      node: on,
      pod: name,
      endpoint: 'eth0',
      ipNetworks: addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`),
      interfaceName: device,
      profiles: ['kns.shop'],
    },
  );
}

type Mode = 'Never' | 'Always' | 'CrossSubnet';

export function pool(
  name: string,
  cidr: string,
  natOutgoing: boolean,
  vxlanMode: Mode = 'Never',
  { ipipMode = 'Never', annotations }: { ipipMode?: Mode; annotations?: Readonly<Record<string, string>> } = {},
): ResourceOf<'IPPool'> {
  return resource('IPPool', { name, ...(annotations && { annotations }) }, { cidr, natOutgoing, vxlanMode, ipipMode });
}

export function nodeResource(
  name: string,
  ipv4Address: string,
  tunnel?: string,
  { ipip, annotations }: { ipip?: string; annotations?: Readonly<Record<string, string>> } = {},
): ResourceOf<'Node'> {
  const bgp = { ipv4Address, ...(ipip && { ipv4IPIPTunnelAddr: ipip }) };
  return resource(
    'Node',
    { name, ...(annotations && { annotations }) },
    { bgp, ...(tunnel && { ipv4VXLANTunnelAddr: tunnel }) },
  );
}

/** Of a node whose kernel has no IPIP. */
export const withoutIpip = { annotations: { 'margay.io/ipip': 'unavailable' } } as const;
/** Of a node whose kernel has no tunnels at all. */
export const withoutTunnels = {
  annotations: { 'margay.io/ipip': 'unavailable', 'margay.io/vxlan': 'unavailable' },
} as const;
/** Of a pool. */
export const fallbackToUdp = { annotations: { 'margay.io/tunnelFallback': 'VXLAN,UDP' } } as const;
export const fallback = { annotations: { 'margay.io/tunnelFallback': 'VXLAN' } } as const;

export function profile(name: string): ResourceOf<'Profile'> {
  return resource('Profile', { name }, { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] });
}

/** An empty block. */
export function block(text: string, host: string | null): Block {
  const cidr = parseCidr(text);
  const { length, family } = cidrParts(cidr);
  const size = 2 ** (bits(family) - length);
  return {
    cidr,
    affinity: host === null ? null : `host:${host}`,
    allocations: Array.from({ length: size }, () => null),
    unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
    attributes: null,
    sequenceNumber: 1n,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

export function entry(key: Key, value: Value<Key['type']>, revision = '1'): Entry {
  return { key, value, revision } as Entry;
}

export const tunnels = {
  vxlan: { enabled: 'auto', port: 4789, id: 4096 },
  ipip: { enabled: 'auto' },
  udp: { port: 8286 },
  externalNodes: [],
} as const;

export function configured(overrides: Partial<FelixConfig> = {}): FelixConfig {
  return { ...readFelixConfig({}, silent), ...overrides };
}

/** A store whose lists wait for `open`. `asked`: somebody waits. */
export function gated(store: Store): { store: Store; open: () => void; asked: () => boolean } {
  const gate = Promise.withResolvers<void>();
  let asked = false;
  const list: Store['list'] = async (type, scope) => {
    asked = true;
    await gate.promise;
    return store.list(type, scope);
  };
  const proxy = new Proxy(store, {
    get: (target, name) => {
      if (name === 'list') return list;
      const found: unknown = Reflect.get(target, name, target);
      return typeof found === 'function' ? found.bind(target) : found;
    },
  });
  return { store: proxy, open: gate.resolve, asked: () => asked };
}

/** A felix that runs on fakes and a memory store, in a folder of its own. */
export class Harness {
  readonly store = createMemoryStore();
  readonly netlink = new FakeNetlink();
  readonly iptables = { 4: new FakeIptables(), 6: new FakeIptables() };
  readonly ipsets = new FakeIpsets();
  readonly sysctls = new Map<string, string>();
  readonly cut: Ip[] = [];
  readonly runDir = mkdtempSync(path.join(tmpdir(), 'felix-'));
  felix: Felix;
  #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(private readonly overrides: Partial<FelixDependencies> = {}) {
    this.felix = this.#make();
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  start(): void {
    this.#running = this.felix.run(this.#stop.signal);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Ends felix and starts another on the same kernel and store. */
  async restart(): Promise<void> {
    await this.stop();
    this.#stop = new AbortController();
    this.felix = this.#make();
    this.start();
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.runDir, { recursive: true });
  }

  link(name: string, up = false): void {
    this.netlink.addLink({ index: 100 + this.netlink.linkByName.size, name, mtu: 1500, up, kind: 'veth' });
  }

  async put(key: Key, value: Value<Key['type']>): Promise<string> {
    const before = await this.store.get(key);
    const outcome = before ? await this.store.update(key, value, before.revision) : await this.store.create(key, value);
    if (outcome.outcome !== 'written') throw new Error(`${keyText(key)}: ${outcome.outcome}`);
    return outcome.entry.revision;
  }

  #make(): Felix {
    const config = configured();
    return new Felix({
      store: this.store,
      netlink: this.netlink,
      iptables: this.iptables,
      ipsets: this.ipsets,
      policy: new RenderedPolicy(node, config, silent),
      deleteFlows: async (addresses) => void this.cut.push(...addresses),
      writeSysctl: (name, value) => void this.sysctls.set(name, value),
      nodename: node,
      runDir: this.runDir,
      config,
      clock: systemClock,
      log: silent,
      ...this.overrides,
    });
  }
}

/** Stands in for the BGP process: serves `routes.sock`. */
export class FeedServer {
  readonly #connections = new Set<Socket>();

  private constructor(private readonly server: Server) {
    server.on('connection', (socket) => {
      this.#connections.add(socket);
      socket.on('close', () => this.#connections.delete(socket));
      socket.on('error', () => socket.destroy());
    });
  }

  static listen(runDir: string): Promise<FeedServer> {
    const server = createServer();
    const feed = new FeedServer(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(path.join(runDir, 'routes.sock'), () => resolve(feed));
    });
  }

  get connections(): number {
    return this.#connections.size;
  }

  say(...messages: readonly (FeedMessage | string)[]): void {
    const text = messages.map((one) => `${typeof one === 'string' ? one : JSON.stringify(one)}\n`).join('');
    for (const socket of this.#connections) socket.write(text);
  }

  close(): Promise<void> {
    for (const socket of this.#connections) socket.destroy();
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}
