import type { NextHop, Route, RouteForm } from '../../kernel/types.ts';
import { type Cidr, familyOf } from '../../model/address.ts';

/** rtm_protocol of every route of ours (Calico's number). */
export const ourProtocol = 80;
/** RTPROT_BIRD, of the routes that Calico has from BGP. */
export const birdProtocol = 12;
/** RT_TABLE_MAIN */
export const mainTable = 254;
/** Every route of ours has the kernel's default metric of its family, which a Route says as 0. */
export const ourMetric = 0;

const ours = { protocol: ourProtocol, metric: ourMetric, table: mainTable } as const;

/** `<pod>/32 dev cali… scope link`, and /128 alike; IPv6 knows no scopes. */
export function deviceRoute(destination: Cidr, device: string): Route {
  const scope = familyOf(destination) === 4 ? 'link' : 'universe';
  return { ...ours, destination, type: 'unicast', nextHops: [{ device }], scope };
}

/** A block of this node: what no pod has is refused here, and never sent back to a default route. */
export function blackhole(destination: Cidr): Route {
  return { ...ours, destination, type: 'blackhole', nextHops: [], scope: 'universe' };
}

/** A route through gateways, ECMP when there are several. */
export function gatewayRoute(destination: Cidr, nextHops: readonly NextHop[]): Route {
  return { ...gatewayForm(nextHops), destination };
}

/** Any route through these gateways. */
export function gatewayForm(nextHops: readonly NextHop[]): RouteForm {
  return { ...ours, type: 'unicast', nextHops, scope: 'universe' };
}

/**
 * Whether the kernel holds what is wanted. The kernel adds what was left open (the device of a gateway, `lo` of an IPv6
 * blackhole, a weight of 1), so only what is asked for is compared.
 */
export function sameRoute(wanted: Route, found: Route): boolean {
  return wanted.destination === found.destination && sameForm(wanted, found);
}

/** As `sameRoute`, for routes to one destination. */
export function sameForm(wanted: RouteForm, found: RouteForm): boolean {
  return (
    wanted.type === found.type &&
    wanted.protocol === found.protocol &&
    wanted.scope === found.scope &&
    wanted.metric === found.metric &&
    wanted.source === found.source &&
    (wanted.type === 'blackhole' || sameHops(wanted.nextHops, found.nextHops))
  );
}

function sameHops(wanted: readonly NextHop[], found: readonly NextHop[]): boolean {
  if (wanted.length !== found.length) return false;
  const [hop, other] = [wanted[0], found[0]];
  if (wanted.length === 1) return hop !== undefined && other !== undefined && sameHop(hop, other);
  const left = [...found];
  return wanted.every((one) => {
    const at = left.findIndex((each) => sameHop(one, each));
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}

function sameHop(wanted: NextHop, found: NextHop): boolean {
  return (
    wanted.gateway === found.gateway &&
    (wanted.device === undefined || wanted.device === found.device) &&
    (wanted.weight ?? 1) === (found.weight ?? 1) &&
    (wanted.onlink ?? false) === (found.onlink ?? false)
  );
}
