import { z } from 'zod';

/** CalicoNodeStatus of `projectcalico.org/v3`: asks a node to write down its state, once or again and again. */
export const calicoNodeStatusSpec = z.looseObject({
  node: z.string().min(1),
  classes: z.array(z.enum(['Agent', 'BGP', 'Routes'])).default([]),
  /** 0: once. */
  updatePeriodSeconds: z.number().int().min(0).max(86_400).default(10),
});

type Families<K extends string, T> = { readonly [key in `${K}V4` | `${K}V6`]: T };

export interface DaemonStatus {
  readonly state: 'Ready' | 'NotReady';
  readonly routerID?: string;
}

export interface NodePeerStatus {
  readonly peerIP: string;
  readonly type: 'NodeMesh' | 'NodePeer' | 'GlobalPeer';
  readonly state: string;
  /** RFC 3339 */
  readonly since: string;
}

export interface NodeRouteStatus {
  /** `FIB`: in use; `RIB`: known beside it. */
  readonly type: 'FIB' | 'RIB';
  readonly destination: string;
  readonly gateway?: string;
  readonly learnedFrom: { readonly sourceType: 'NodeMesh' | 'BGPPeer' | 'Static'; readonly peerIP?: string };
}

/** The part that a node writes, with Calico's names. */
export interface NodeStatus {
  /** RFC 3339 */
  readonly lastUpdated: string;
  readonly agent?: Families<'bird', DaemonStatus>;
  readonly bgp?: Families<'numberEstablished' | 'numberNotEstablished', number> &
    Families<'peers', readonly NodePeerStatus[]>;
  readonly routes?: Families<'routes', readonly NodeRouteStatus[]>;
}
