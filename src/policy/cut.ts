import type { Ip } from '../model/address.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { evaluateAtHost, type Failsafes, type Passage } from './host.ts';
import type { NodePolicy } from './ir.ts';
import { devicesOf, hostAt } from './render/host.ts';

/** A tracked connection as the forwarding rules saw its first packet. */
export interface Tracked extends Omit<Packet, 'endpoint' | 'direction'> {
  /** What it was sent to, where that was translated: early policies of host endpoints go by it. */
  readonly sentTo?: { readonly destination: Ip; readonly destinationPort?: number };
  /** It passed as related to another. */
  readonly expected: boolean;
}

/** What host endpoints depend on besides policy. */
export interface Surroundings {
  readonly failsafes: Failsafes;
  readonly interfacePrefix: string;
  /** UDP ports of the node's tunnels. */
  readonly tunnelPorts: ReadonlySet<number>;
  /**
   * The device by which an address is reached, and from which its packets are taken to come; undefined where it may be
   * any of several, or is none.
   */
  readonly deviceOf: (address: Ip) => string | undefined;
}

/**
 * Whether policy would refuse a connection if it were new now, at either end that is here. Packets of the node itself pass
 * at its own pods whatever the policy, as do those of a pod to itself, and related connections live by the one that they are
 * related to. A host endpoint is asked where it is sure which one it is.
 * @param endpoints key of the local endpoint by address
 * @param own addresses of the node
 * @param node without it host endpoints are not asked
 */
export function refuses(
  policy: NodePolicy,
  endpoints: ReadonlyMap<Ip, string>,
  own: ReadonlySet<Ip>,
  node?: Surroundings,
): (connection: Tracked) => boolean {
  const denied = (endpoint: string | undefined, direction: Packet['direction'], packet: Tracked) =>
    endpoint !== undefined &&
    policy.endpoints.has(endpoint) &&
    evaluate(policy, { ...packet, endpoint, direction }).verdict === 'deny';
  const deniedAtPods = (connection: Tracked) =>
    !own.has(connection.source) &&
    connection.source !== connection.destination &&
    (denied(endpoints.get(connection.source), 'egress', connection) ||
      denied(endpoints.get(connection.destination), 'ingress', connection));
  const deniedAtHosts = node ? refusedAtHosts(policy, endpoints, own, node) : () => false;
  return (connection) => !connection.expected && (deniedAtPods(connection) || deniedAtHosts(connection));
}

/** Most addresses whose device is remembered during a walk. */
const mostAddresses = 100_000;

/** What comes in by a host endpoint's device, and what leaves by one, be it the host's own or forwarded. */
function refusedAtHosts(
  policy: NodePolicy,
  endpoints: ReadonlyMap<Ip, string>,
  own: ReadonlySet<Ip>,
  { failsafes, interfacePrefix, tunnelPorts, deviceOf }: Surroundings,
): (connection: Tracked) => boolean {
  const devices = devicesOf(policy);
  if (devices.length === 0) return () => false;
  const known = new Map<Ip, string | undefined>();
  /** Key of the host endpoint between the host and an address elsewhere. */
  const hostTo = (address: Ip): string | undefined => {
    if (!known.has(address)) {
      if (known.size >= mostAddresses) known.clear();
      known.set(address, hostAt(devices, deviceOf(address), interfacePrefix)?.endpoint);
    }
    return known.get(address);
  };
  const denied = (packet: Tracked, direction: Packet['direction'], other: Ip, passage: Passage) => {
    // What is here passes by no such device.
    const endpoint = own.has(other) || endpoints.has(other) ? undefined : hostTo(other);
    if (endpoint === undefined) return false;
    return evaluateAtHost(policy, { ...packet, endpoint, direction }, passage, failsafes).verdict === 'deny';
  };
  return (packet) => {
    const { source, destination, protocol, destinationPort = 0 } = packet;
    const [sent, received] = [own.has(source), own.has(destination)];
    const tunnel = protocol === ipInIp || (protocol === udp && tunnelPorts.has(destinationPort));
    if ((sent || received) && tunnel) return false;
    return (
      (!sent && denied(packet, 'ingress', source, received ? 'own' : 'forwarded')) ||
      (!received && denied(packet, 'egress', destination, sent ? 'own' : 'forwarded'))
    );
  };
}

const udp = 17;
const ipInIp = 4;
