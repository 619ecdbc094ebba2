import { readFileSync } from 'node:fs';
import type { Key, Store, Value } from '../../src/datastore/store.ts';
import { addressAt, allocate, newBlock } from '../../src/ipam/block.ts';
import { felixStatus } from '../../src/lab/agents.ts';
import type { LabNode } from '../../src/lab/plan.ts';
import { kill } from '../../src/lab/processes.ts';
import type { Lab } from '../../src/lab/up.ts';
import { until } from '../../src/lab/wait.ts';
import { hostCidr, type Ip, parseCidr } from '../../src/model/address.ts';
import { apiVersion } from '../../src/model/resource.ts';
import type { Figure } from '../figure.ts';
import { withLab } from '../lab.ts';
import { firstNode, withStore } from './main.ts';

/** A cluster of a thousand nodes with ten pods each, and how soon and in how much memory a node has to know it. */
const size = { nodes: 1000, pods: 10 };
const target = { seconds: 5, memoryMiB: 300 };
/** Of /proc/PID/stat's times. */
const ticksPerSecond = 100;

/** From the start of an agent to its view being whole, in seconds, and what it holds then, in MiB. */
export async function measureList(runs = 3, signal: AbortSignal): Promise<Figure[]> {
  const measure = (lab: Lab) =>
    withStore(lab, async (store) => {
      await fill(store);
      const measured: Started[] = [];
      for (let round = 0; round < runs; round++) measured.push(await restarted(firstNode(lab), signal));
      return measured;
    });
  const measured = await withLab(signal, measure, { nodes: 1 });
  const figure = (name: string, unit: string, ours: readonly number[], peer: number): Figure => {
    return { name, unit, ours, peer: ours.map(() => peer), peerName: 'target' };
  };
  return [
    figure(
      'cni-list',
      's',
      measured.map(({ seconds }) => seconds),
      target.seconds,
    ),
    figure(
      'cni-list-memory',
      'MiB',
      measured.map(({ memoryMiB }) => memoryMiB),
      target.memoryMiB,
    ),
  ];
}

interface Started {
  readonly seconds: number;
  readonly memoryMiB: number;
}

/** Kills felix, whose parent starts it again. */
async function restarted(node: LabNode, signal: AbortSignal): Promise<Started> {
  const { pid: before } = await felixStatus(node);
  kill(before);
  const pid = await until('felix knows the cluster', 120_000, signal, async () => {
    const status = await felixStatus(node);
    return status.inSync && status.pid !== before ? { pid: status.pid } : 'not in sync';
  });
  const seconds = ageOf(pid.pid);
  const [, kilobytes = '0'] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid.pid}/status`, 'utf8')) ?? [];
  return { seconds, memoryMiB: Number(kilobytes) / 1024 };
}

/** Seconds since a process began. proc(5). */
function ageOf(pid: number): number {
  const [uptime = '0'] = readFileSync('/proc/uptime', 'utf8').split(' ');
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return Number(uptime) - Number(fields[19]) / ticksPerSecond;
}

/** Nodes with a block, and pods with an address of it. They have no BGP address, so nobody calls them. */
async function fill(store: Store): Promise<void> {
  const objects = Array.from({ length: size.nodes }, (_, at) => objectsOf(`other-${at}`, at)).flat();
  const worker = async () => {
    for (let next = objects.shift(); next; next = objects.shift()) await store.create(next.key, next.value);
  };
  await Promise.all(Array.from({ length: 32 }, worker));
}

interface Stored {
  readonly key: Key;
  readonly value: Value<Key['type']>;
}

function objectsOf(node: string, at: number): Stored[] {
  const cidr = parseCidr(`10.${128 + (at >> 10)}.${(at >> 2) & 255}.${(at & 3) * 64}/26`);
  let block = newBlock(cidr, node, new Date());
  const pods: Stored[] = [];
  for (let ordinal = 0; ordinal < size.pods; ordinal++) {
    const name = `${node}-${ordinal}`;
    block = allocate(block, { handle_id: `bench.${name}`, secondary: { node } })?.block ?? block;
    pods.push(podOf(node, name, addressAt(block, ordinal)));
  }
  const metadata = { name: node };
  return [
    { key: { type: 'Node', name: node }, value: { kind: 'Node', apiVersion, metadata, spec: {} } },
    { key: { type: 'Block', cidr }, value: block },
    { key: { type: 'BlockAffinity', host: node, cidr }, value: { state: 'confirmed', deleted: false } },
    ...pods,
  ];
}

function podOf(node: string, pod: string, address: Ip): Stored {
  const name = `${node.replaceAll('-', '--')}-k8s-${pod.replaceAll('-', '--')}-eth0`;
  const labels = {
    app: `app-${pod.length}`,
    'projectcalico.org/namespace': 'shop',
    'projectcalico.org/orchestrator': 'k8s',
  };
  const spec = {
    ...{ orchestrator: 'k8s', node, pod, endpoint: 'eth0', containerID: pod, interfaceName: 'cali0123456789a' },
    ...{ ipNetworks: [hostCidr(address)], profiles: ['kns.shop', 'ksa.shop.default'] },
  };
  const metadata = { name, namespace: 'shop', labels };
  return {
    key: { type: 'WorkloadEndpoint', namespace: 'shop', name },
    value: { kind: 'WorkloadEndpoint', apiVersion, metadata, spec },
  };
}
