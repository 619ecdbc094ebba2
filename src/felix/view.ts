import type { Dataplane } from './apply.ts';
import type { Graph } from './calc/graph.ts';
import { type Candidate, type RouteClass, routeClasses } from './calc/routes.ts';
import { vxlanDevices } from './calc/tunnels.ts';
import type { TunnelStatus as DeviceStatus } from './managers/tunnel.ts';
import type { Counts } from './metrics.ts';
import type { EndpointStatus, FailureLedger, FelixStatus, RouteStatus, RoutesStatus, TunnelStatus } from './status.ts';

/** Routes whose text is made in one turn of the event loop: about a millisecond's work. */
const routesInPiece = 250;

/** The parts of the status that the graph and the dataplane answer. */
export function describe(
  graph: Graph,
  dataplane: Dataplane,
  ledger: FailureLedger,
  feed: { readonly connected: boolean; readonly reason?: string },
  podMtu?: number,
): Pick<FelixStatus, 'feed' | 'podMtu' | 'endpoints' | 'routes' | 'tunnels' | 'failures' | 'invalid'> {
  return {
    feed: {
      ...feed,
      complete: graph.feed.complete,
      routes: graph.feed.count,
      stale: graph.feed.staleCount,
    },
    ...(podMtu !== undefined && { podMtu }),
    endpoints: endpointList(graph, dataplane, ledger, podMtu),
    routes: { counts: routeCounts(graph) },
    tunnels: tunnelList(graph, dataplane),
    failures: ledger.list,
    invalid: graph.problems().map(({ key, error }) => ({ key, message: error.message })),
  };
}

/** Figures for metrics: what is wanted, which is what stands unless a failure says otherwise. */
export function countsOf(
  graph: Graph,
  policies: number,
  tunnels: readonly DeviceStatus[],
  inSync: boolean,
): Omit<Counts, 'staleSeconds'> {
  const { tables, sets } = graph.firewall();
  const remote = graph.routes.count('bgp');
  const versions = [...tables.keys()].map(String);
  const setsOf = (version: string) => [...sets.values()].filter(({ family }) => String(family) === version).length;
  return {
    endpoints: graph.endpoints.size,
    hosts: graph.remote.hosts,
    policies,
    invalid: byKind(graph.problems()),
    inSync,
    tunnels: new Map(tunnels.map(({ device, state }) => [device, state === 'up'])),
    carried: tunnels.find(({ kind }) => kind === 'udp')?.packets ?? {},
    routes: new Map([
      ['local', graph.routes.count() - remote],
      ['remote', remote],
    ]),
    sets: new Map(versions.map((version) => [version, setsOf(version)])),
    tables: [...tables].flatMap(([family, byName]) =>
      [...byName].map(([table, { chains }]) => ({
        version: String(family),
        table,
        chains: chains.size,
        rules: [...chains.values()].reduce((sum, rules) => sum + rules.length, 0),
      })),
    ),
  };
}

/** An object counts once, however much is wrong in it. */
function byKind(problems: readonly { readonly key: string }[]): Map<string, number> {
  const kinds = [...new Set(problems.map(({ key }) => key))].map((key) => key.split('/')[0] ?? '');
  return new Map([...Map.groupBy(kinds, (kind) => kind)].map(([kind, all]) => [kind, all.length]));
}

function endpointList(graph: Graph, dataplane: Dataplane, ledger: FailureLedger, podMtu?: number): EndpointStatus[] {
  return [...graph.endpoints.values()].map((endpoint) => {
    const mtu = dataplane.mtuOf(endpoint);
    const problem = ledger.of('endpoint', endpoint.name)?.message;
    return {
      key: endpoint.key,
      name: endpoint.name,
      interface: endpoint.interfaceName,
      addresses: endpoint.addresses,
      state: dataplane.stateOf(endpoint),
      ...(mtu !== undefined && podMtu !== undefined && mtu !== podMtu && { mtu }),
      ...(problem !== undefined && { problem }),
    };
  });
}

function tunnelList(graph: Graph, dataplane: Dataplane): TunnelStatus[] {
  return dataplane.tunnels().map((tunnel) => {
    const pools = graph.remote.poolsWithout(tunnel.kind, tunnel.device === vxlanDevices[6] ? 6 : 4);
    return { ...tunnel, ...(tunnel.state === 'unsupported' && { pools }) };
  });
}

function routeCounts(graph: Graph): RoutesStatus['counts'] {
  return Object.fromEntries(routeClasses.map((name) => [name, graph.routes.count(name)])) as Record<RouteClass, number>;
}

/**
 * The text of a RoutesStatus in pieces, for there may be a hundred thousand routes: each piece is as they are when it is
 * asked for.
 */
export function* routesText(graph: Graph, dataplane: Dataplane, ledger: FailureLedger): Generator<string> {
  let text = `{"counts":${JSON.stringify(routeCounts(graph))},"list":[`;
  let inPiece = 0;
  let comma = '';
  for (const winner of graph.routes.winners.values()) {
    text += comma + JSON.stringify(routeStatus(winner, dataplane, ledger));
    comma = ',';
    if (++inPiece < routesInPiece) continue;
    yield text;
    text = '';
    inPiece = 0;
  }
  yield `${text}]}\n`;
}

function routeStatus(
  { class: routeClass, route }: Candidate,
  dataplane: Dataplane,
  ledger: FailureLedger,
): RouteStatus {
  const problem = ledger.of('route', route.destination)?.message;
  return {
    destination: route.destination,
    class: routeClass,
    type: route.type,
    nextHops: route.nextHops,
    programmed: dataplane.routes.stands(route),
    ...(problem !== undefined && { problem }),
  };
}

/** Whether a revision is the wanted one or later: a decimal counter, a digest behind it or not; or else only equal. */
export function satisfies(revision: string, wanted: string | undefined): boolean {
  if (wanted === undefined || revision === wanted) return true;
  const [have, want] = [revision, wanted].map((text) => /^(\d+)(\.[0-9a-f]+)?$/.exec(text)?.[1]);
  return have !== undefined && want !== undefined && BigInt(have) >= BigInt(want);
}
