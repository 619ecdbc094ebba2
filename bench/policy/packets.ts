import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { keyText } from '../../src/datastore/store.ts';
import { run } from '../../src/lab/run.ts';
import { parseResource } from '../../src/model/kinds.ts';
import { apiVersion } from '../../src/model/resource.ts';
import { type Agent, endpointKey, endpointOf, profileOf, withAgent } from '../felix/agent.ts';
import { type Space, withSpace } from '../felix/space.ts';
import type { Figure } from '../figure.ts';

/** Rules that apply to the pod; the last one lets the packets in. */
const rules = 1000;
const port = 8080;
const connections = 5000;
const mebibytes = 1024;
const podAddress = '10.65.0.2';
const gateway = '169.254.1.1';
/** Built by scripts/build-bench.sh. */
const program = join(import.meta.dirname, 'bench-packets');
const deadlineMs = 30_000;

type Way = 'empty' | 'ours' | 'linear';

/**
 * What a packet to a pod costs: with a thousand applicable rules, beside a policy of one, and beside the same thousand as
 * a plain list. Rates of connections and octets; the ratio to the empty policy should be at least 0.9.
 */
export async function measurePackets(runs: number): Promise<Figure[]> {
  const rates = { connect: ways(), send: ways() };
  for (let round = 0; round < runs; round++)
    for (const way of ['empty', 'ours', 'linear'] as const)
      await withPlace((place) =>
        withAgent(place.node, false, async (agent) => {
          await isolate(agent, place, way);
          await using _server = await serve(place);
          rates.connect[way].push(connections / (await seconds(place, 'connect', connections)));
          rates.send[way].push((mebibytes * 8 * 2 ** 20) / 1e9 / (await seconds(place, 'send', mebibytes)));
        }),
      );
  const figure = (name: string, unit: string, { ours, ...peers }: Record<Way, number[]>): Figure[] =>
    Object.entries(peers).map(([peerName, peer]) => ({
      ...{ name, unit, ours, peer },
      peerName: peerName === 'empty' ? 'an empty policy' : 'a linear list of rules',
    }));
  return [...figure('policy-connections', '/s', rates.connect), ...figure('policy-throughput', 'Gbit/s', rates.send)];
}

function ways(): Record<Way, number[]> {
  return { empty: [], ours: [], linear: [] };
}

/** The node, the namespace of its pod behind `cali0`, and a client's behind `cl0`. */
interface Place {
  readonly node: Space;
  readonly pod: Space;
  readonly client: Space;
}

async function withPlace<T>(action: (place: Place) => Promise<T>): Promise<T> {
  return withSpace((node) =>
    withSpace((pod) =>
      withSpace(async (client) => {
        // Only the node has the uplink.
        for (const other of [pod, client]) await other.exec('ip', 'link', 'delete', 'up0');
        await linkUp(node, 'cali0', pod, 'eth0');
        await pod.exec('ip', 'address', 'add', `${podAddress}/32`, 'dev', 'eth0');
        await pod.exec('ip', 'route', 'add', gateway, 'dev', 'eth0');
        await pod.exec('ip', 'route', 'add', 'default', 'via', gateway, 'dev', 'eth0');
        await linkUp(node, 'cl0', client, 'cl1');
        // Proxy ARP answers for what the node has a route to.
        await node.exec('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
        await node.exec('ip', 'address', 'add', '198.51.100.1/24', 'dev', 'cl0');
        await client.exec('ip', 'address', 'add', '198.51.100.2/24', 'dev', 'cl1');
        await client.exec('ip', 'route', 'add', 'default', 'via', '198.51.100.1');
        return action({ node, pod, client });
      }),
    ),
  );
}

/** A pair of devices between two namespaces, both ends up. */
async function linkUp(a: Space, nameA: string, b: Space, nameB: string): Promise<void> {
  await a.exec('ip', 'link', 'add', nameA, 'type', 'veth', 'peer', 'name', nameB, 'netns', b.name);
  await a.exec('ip', 'link', 'set', nameA, 'up');
  await b.exec('ip', 'link', 'set', nameB, 'up');
}

/** The policy of one way stands in the kernel. */
async function isolate({ put, start, felix, signal }: Agent, { node }: Place, way: Way): Promise<void> {
  await put({ type: 'Profile', name: 'kns.shop' }, profileOf('kns.shop'));
  const key = endpointKey('web');
  const revision = await put(key, endpointOf('web', 'cali0', podAddress));
  const strangers = Array.from({ length: rules - 1 }, (_, at) => strangerOf(at));
  // The last policy, of one rule, lets everybody in.
  const lists = [...(way === 'ours' ? chunksOf(strangers, 100) : []), []];
  const last = { action: 'Allow', protocol: 'TCP', destination: { ports: [port] } };
  for (const [at, list] of lists.entries()) {
    const ingress = list.map(({ net, to }) => ({
      ...{ action: 'Allow', protocol: 'TCP' },
      ...{ source: { nets: [net] }, destination: { ports: [to] } },
    }));
    const name = `default.bench-${at}`;
    const spec = {
      order: at,
      selector: 'all()',
      types: ['Ingress'],
      ingress: at === lists.length - 1 ? [...ingress, last] : ingress,
    };
    const kind = 'GlobalNetworkPolicy';
    await put({ type: kind, name }, parseResource(kind, { kind, apiVersion, metadata: { name }, spec }));
  }
  start();
  if ((await felix.whenProgrammed(keyText(key), revision, deadlineMs, signal)) !== 'programmed')
    throw new Error('the pod was not programmed');
  if (way !== 'linear') return;
  const lines = strangers.map(({ net, to }) => `-I FORWARD -d ${podAddress} -s ${net} -p tcp --dport ${to} -j ACCEPT`);
  const input = `*filter\n${lines.join('\n')}\nCOMMIT\n`;
  await run('nsenter', [`--net=${node.path}`, 'iptables-nft-restore', '--noflush'], { input });
}

/** Somebody else's network and port. */
function strangerOf(at: number): { readonly net: string; readonly to: number } {
  return { net: `10.${100 + (at >> 8)}.${at & 255}.0/24`, to: 10_000 + at };
}

function chunksOf<T>(list: readonly T[], length: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / length) }, (_, at) => list.slice(at * length, (at + 1) * length));
}

/** Starts the pod's server; disposing ends it. */
async function serve({ pod }: Place): Promise<AsyncDisposable> {
  const server = spawn('nsenter', [`--net=${pod.path}`, program, 'serve', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout, 'data');
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(server, 'close');
      server.kill();
      await ended;
    },
  };
}

/** Seconds that so many connections, or mebibytes, take. */
async function seconds({ client }: Place, what: 'connect' | 'send', count: number): Promise<number> {
  return Number(await client.exec(program, what, podAddress, String(port), String(count)));
}
