import type { PeerStatus } from '../bgp/peer-status.ts';
import type { RouteStatus } from '../bgp/views.ts';
import { type Family, familyOf, parseIp } from '../model/address.ts';
import type { DaemonStatus, NodePeerStatus, NodeRouteStatus, NodeStatus } from '../model/node-status.ts';

/* What the speaker says of itself, as the status of a CalicoNodeStatus. Pure. */

/** What was asked of the speaker; nothing where it did not answer. */
export interface Speaker {
  readonly status?: { readonly identifier: string; readonly converged: boolean };
  readonly peers?: readonly Pick<PeerStatus, 'name' | 'address' | 'role' | 'state' | 'since'>[];
  readonly routes?: readonly RouteStatus[];
}

export type StatusClass = 'Agent' | 'BGP' | 'Routes';

/** @param ownPeers addresses that BGPPeers of this node alone name */
export function nodeStatusOf(
  classes: readonly StatusClass[],
  speaker: Speaker,
  ownPeers: ReadonlySet<string>,
  now: Date,
): NodeStatus {
  const wants = (one: StatusClass) => classes.includes(one);
  return {
    lastUpdated: `${now.toISOString().slice(0, 19)}Z`,
    ...(wants('Agent') && { agent: { birdV4: daemonOf(speaker), birdV6: daemonOf(speaker) } }),
    ...(wants('BGP') && { bgp: bgpOf(speaker, ownPeers) }),
    ...(wants('Routes') && { routes: { routesV4: routesOf(speaker, 4), routesV6: routesOf(speaker, 6) } }),
  };
}

function daemonOf({ status }: Speaker): DaemonStatus {
  if (status === undefined) return { state: 'NotReady' };
  return { state: status.converged ? 'Ready' : 'NotReady', routerID: status.identifier };
}

function bgpOf({ peers = [] }: Speaker, ownPeers: ReadonlySet<string>): NonNullable<NodeStatus['bgp']> {
  const of = (family: Family) => peers.filter(({ address }) => familyOf(parseIp(address)) === family);
  const up = (family: Family) => of(family).filter(({ state }) => state === 'Established').length;
  const shown = (family: Family) =>
    of(family).map(
      ({ address, role, state, since }): NodePeerStatus => ({
        peerIP: address,
        type: role === 'mesh' ? 'NodeMesh' : ownPeers.has(address) ? 'NodePeer' : 'GlobalPeer',
        state,
        since,
      }),
    );
  return {
    numberEstablishedV4: up(4),
    numberNotEstablishedV4: of(4).length - up(4),
    numberEstablishedV6: up(6),
    numberNotEstablishedV6: of(6).length - up(6),
    peersV4: shown(4),
    peersV6: shown(6),
  };
}

function routesOf({ peers = [], routes = [] }: Speaker, family: Family): NodeRouteStatus[] {
  const byName = new Map(peers.map((peer) => [peer.name, peer]));
  return routes
    .filter(({ prefix }) => familyOf(prefix) === family)
    .flatMap(({ prefix, paths }) =>
      paths.map(({ verdict, nextHop, source, peer: name }): NodeRouteStatus => {
        const peer = byName.get(name);
        const sourceType = source === 'local' ? 'Static' : peer?.role === 'mesh' ? 'NodeMesh' : 'BGPPeer';
        return {
          type: verdict === 'best' || verdict === 'multipath' ? 'FIB' : 'RIB',
          destination: prefix,
          ...(nextHop !== undefined && source !== 'local' && { gateway: nextHop }),
          learnedFrom: { sourceType, ...(peer && source !== 'local' && { peerIP: peer.address }) },
        };
      }),
    );
}
