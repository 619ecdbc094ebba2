import { type Cidr, compareIp, familyOf } from '../model/address.ts';
import type { NextHop, Route, RouteForm } from './types.ts';

/** RT_TABLE_MAIN. */
export const mainTable = 254;

/** What the kernel gives an IPv6 route without a metric (IP6_RT_PRIO_USER). A Route says 0. */
export const defaultMetric6 = 1024;

/**
 * The form in which the driver reads routes back, so that desired and actual compare field by field: next hops sorted
 * by gateway, then device; weight 1, the weight of an only next hop and `onlink: false` left out; no next hops for a
 * blackhole; IPv6 scope `universe`; an IPv6 metric of 1024, which is the kernel's default, as 0.
 */
export function canonicalRoute(route: Route): Route {
  const six = familyOf(route.destination) === 6;
  const several = route.nextHops.length > 1;
  return {
    destination: route.destination,
    type: route.type,
    nextHops:
      route.type === 'blackhole' ? [] : route.nextHops.map((hop) => canonicalHop(hop, several)).sort(compareHops),
    protocol: route.protocol,
    scope: six || route.type === 'blackhole' ? 'universe' : route.scope,
    metric: six && route.metric === defaultMetric6 ? 0 : route.metric,
    table: route.table,
    ...(route.source === undefined ? {} : { source: route.source }),
  };
}

/** What a route is besides its destination. */
export function formOf({ type, nextHops, protocol, scope, metric, table, source }: RouteForm): RouteForm {
  return { type, nextHops, protocol, scope, metric, table, ...(source === undefined ? {} : { source }) };
}

export function withDestination(form: RouteForm, destination: Cidr): Route {
  const { type, nextHops, protocol, scope, metric, table, source } = form;
  if (source !== undefined) return { destination, type, nextHops, protocol, scope, metric, table, source };
  return { destination, type, nextHops, protocol, scope, metric, table };
}

/** What the kernel tells routes apart by: table, destination and metric. */
export function routeKey(route: Pick<Route, 'destination' | 'metric' | 'table'>): string {
  const metric = familyOf(route.destination) === 6 && route.metric === defaultMetric6 ? 0 : route.metric;
  return `${route.table} ${route.destination} ${metric}`;
}

/** Whether both mean the same to the kernel. */
export function sameRoute(a: Route, b: Route): boolean {
  const [x, y] = [canonicalRoute(a), canonicalRoute(b)];
  return (
    routeKey(x) === routeKey(y) &&
    x.type === y.type &&
    x.protocol === y.protocol &&
    x.scope === y.scope &&
    x.source === y.source &&
    x.nextHops.length === y.nextHops.length &&
    x.nextHops.every((hop, at) => sameHop(hop, y.nextHops[at]))
  );
}

function canonicalHop(hop: NextHop, weighted: boolean): NextHop {
  return {
    ...(hop.gateway === undefined ? {} : { gateway: hop.gateway }),
    ...(hop.device === undefined ? {} : { device: hop.device }),
    ...(!weighted || hop.weight === undefined || hop.weight === 1 ? {} : { weight: hop.weight }),
    ...(hop.onlink ? { onlink: true } : {}),
  };
}

function compareHops(a: NextHop, b: NextHop): number {
  if (a.gateway !== b.gateway) {
    if (a.gateway === undefined) return -1;
    if (b.gateway === undefined) return 1;
    return compareIp(a.gateway, b.gateway);
  }
  const [x, y] = [a.device ?? '', b.device ?? ''];
  return x < y ? -1 : x > y ? 1 : 0;
}

function sameHop(a: NextHop, b: NextHop | undefined): boolean {
  return (
    b !== undefined &&
    a.gateway === b.gateway &&
    a.device === b.device &&
    a.weight === b.weight &&
    a.onlink === b.onlink
  );
}
