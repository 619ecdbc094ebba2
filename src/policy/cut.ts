import type { Ip } from '../model/address.ts';
import { evaluate, type Packet } from './evaluate.ts';
import type { NodePolicy } from './ir.ts';

/** A tracked connection as the forwarding rules saw its first packet. */
export interface Tracked extends Omit<Packet, 'endpoint' | 'direction'> {
  /** It passed as related to another. */
  readonly expected: boolean;
}

/**
 * Whether policy would refuse a connection if it were new now, at either end that is here. Packets of the node itself
 * pass whatever the policy, as do those of a pod to itself, and related connections live by the one that they are related to.
 * @param endpoints key of the local endpoint by address
 * @param own addresses of the node
 */
export function refuses(
  policy: NodePolicy,
  endpoints: ReadonlyMap<Ip, string>,
  own: ReadonlySet<Ip>,
): (connection: Tracked) => boolean {
  const denied = (endpoint: string | undefined, direction: Packet['direction'], packet: Tracked) =>
    endpoint !== undefined &&
    policy.endpoints.has(endpoint) &&
    evaluate(policy, { ...packet, endpoint, direction }).verdict === 'deny';
  return (connection) =>
    !connection.expected &&
    !own.has(connection.source) &&
    connection.source !== connection.destination &&
    (denied(endpoints.get(connection.source), 'egress', connection) ||
      denied(endpoints.get(connection.destination), 'ingress', connection));
}
