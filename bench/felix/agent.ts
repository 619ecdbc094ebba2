import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createMemoryStore, type MemoryStore } from '../../src/datastore/memory.ts';
import { type Key, keyText, type Value } from '../../src/datastore/store.ts';
import { readFelixConfig } from '../../src/felix/config.ts';
import { Felix } from '../../src/felix/main.ts';
import { RenderedPolicy } from '../../src/felix/policy.ts';
import { openConntrack } from '../../src/kernel/conntrack.ts';
import { createIpsets } from '../../src/kernel/ipset.ts';
import { openIpsetMembers } from '../../src/kernel/ipset-netlink.ts';
import { createIptables } from '../../src/kernel/iptables/driver.ts';
import { inNamespace, openNetlinkIn, warmThreads } from '../../src/kernel/namespace.ts';
import { writeSysctl } from '../../src/kernel/sysctl.ts';
import type { Ipsets, Netlink } from '../../src/kernel/types.ts';
import { type Cidr, parseCidr } from '../../src/model/address.ts';
import type { Block } from '../../src/model/ipam.ts';
import { type Kind, parseResource, type ResourceOf } from '../../src/model/kinds.ts';
import { apiVersion } from '../../src/model/resource.ts';
import type { Space } from './space.ts';

export const node = 'n1';

/** Felix on the real drivers of a namespace, with a memory store. */
export interface Agent {
  readonly felix: Felix;
  readonly store: MemoryStore;
  readonly netlink: Netlink;
  readonly policy: RenderedPolicy;
  readonly runDir: string;
  readonly signal: AbortSignal;
  put(key: Key, value: Value<Key['type']>): Promise<string>;
  /** Starts felix; before, the store can be filled. */
  start(): void;
}

/** Stops felix whatever happens. @param watched may stand between felix and the IP sets */
export async function withAgent<T>(
  space: Space,
  bgp: boolean,
  action: (agent: Agent) => Promise<T>,
  watched: (ipsets: Ipsets) => Ipsets = (ipsets) => ipsets,
): Promise<T> {
  warmThreads();
  const log = createLog('bench', 'error');
  const stop = new AbortController();
  const store = createMemoryStore();
  const runDir = mkdtempSync(join(tmpdir(), 'margay-bench-'));
  const launcher = ['nsenter', `--net=${space.path}`];
  const driver = { backend: 'nft', log, launcher } as const;
  const netlink = openNetlinkIn(space.path, { aside: true });
  const conntrack = inNamespace(space.path, openConntrack);
  const members = inNamespace(space.path, openIpsetMembers);
  const config = readFelixConfig({}, log);
  const policy = new RenderedPolicy(node, config, log);
  const felix = new Felix({
    store,
    netlink,
    iptables: { 4: createIptables({ ...driver, family: 4 }), 6: createIptables({ ...driver, family: 6 }) },
    ipsets: watched(createIpsets({ log, launcher, members })),
    policy,
    deleteFlows: (addresses) => conntrack.deleteFlows(addresses),
    writeSysctl: (name, value, unread) => void inNamespace(space.path, () => writeSysctl(name, value, unread)),
    nodename: node,
    runDir,
    config,
    bgp,
    clock: systemClock,
    log,
  });
  let running: Promise<void> | undefined;
  const put: Agent['put'] = async (key, value) => {
    const before = await store.get(key);
    const outcome = before ? await store.update(key, value, before.revision) : await store.create(key, value);
    if (outcome.outcome !== 'written') throw new Error(`${keyText(key)}: ${outcome.outcome}`);
    return outcome.entry.revision;
  };
  const start = () => {
    running = felix.run(stop.signal);
  };
  try {
    return await action({ felix, store, netlink, policy, runDir, signal: stop.signal, put, start });
  } finally {
    stop.abort();
    await running;
    netlink.close();
    conntrack.close();
    members.close();
    rmSync(runDir, { recursive: true });
  }
}

function resource<K extends Kind>(kind: K, metadata: object, spec: object): ResourceOf<K> {
  return parseResource(kind, { kind, apiVersion, metadata, spec });
}

export function poolOf(cidr: string, vxlanMode: 'Never' | 'Always'): ResourceOf<'IPPool'> {
  return resource('IPPool', { name: 'p' }, { cidr, natOutgoing: true, vxlanMode });
}

export function nodeOf(name: string, underlay: string, tunnel: string): ResourceOf<'Node'> {
  return resource('Node', { name }, { bgp: { ipv4Address: underlay }, ipv4VXLANTunnelAddr: tunnel });
}

export function profileOf(name: string): ResourceOf<'Profile'> {
  return resource('Profile', { name }, { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] });
}

export function endpointKey(name: string): Key<'WorkloadEndpoint'> {
  return { type: 'WorkloadEndpoint', namespace: 'shop', name: `n1-k8s-${name}-eth0` };
}

export function endpointOf(name: string, device: string, address: string): ResourceOf<'WorkloadEndpoint'> {
  return resource(
    'WorkloadEndpoint',
    { name: endpointKey(name).name, namespace: 'shop', labels: { app: name } },
    {
      orchestrator: 'k8s',
      node,
      pod: name,
      endpoint: 'eth0',
      ipNetworks: [`${address}/32`],
      interfaceName: device,
      profiles: ['kns.shop'],
    },
  );
}

/** An empty block of 64 addresses. */
export function blockOf(text: string, owner: string): { readonly cidr: Cidr; readonly block: Block } {
  const cidr = parseCidr(text);
  const block = {
    cidr,
    affinity: `host:${owner}`,
    allocations: Array.from({ length: 64 }, () => null),
    unallocated: Array.from({ length: 64 }, (_, ordinal) => ordinal),
    attributes: null,
    sequenceNumber: 1n,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
  return { cidr, block };
}

/** Serves `routes.sock`: as many /26 from 11.0.0.0 on as it is told, through one gateway. */
const feedSource = `
const { createServer } = require('node:net');
const { Readable } = require('node:stream');
const [path, count, gateway] = process.argv.slice(1);
function* lines() {
  yield '{"type":"hello","version":1}\\n';
  for (let at = 0; at < Number(count); at++) {
    const address = 0x0b000000 + at * 64;
    const prefix = [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.') + '/26';
    yield JSON.stringify({ type: 'route', prefix, nextHops: [gateway], source: 'ibgp' }) + '\\n';
  }
  yield '{"type":"endOfSnapshot"}\\n';
}
createServer((socket) => {
  socket.on('error', () => socket.destroy());
  Readable.from(lines()).pipe(socket, { end: false });
}).listen(path, () => console.log('ready'));
`;

/** Stands in for the BGP process, in a process of its own: says one table to whoever connects. Ends with `stop`. */
export async function serveFeed(runDir: string, count: number, gateway: string): Promise<{ stop(): void }> {
  const path = join(runDir, 'routes.sock');
  const child = spawn(process.execPath, ['-e', feedSource, path, String(count), gateway], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return { stop: () => void child.kill() };
}
