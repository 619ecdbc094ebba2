import { cidrParts, type Family, familyOf } from '../../model/address.ts';
import { withDestination } from '../route.ts';
import { KernelError, type PackedRoutes, type Route, type RouteForm } from '../types.ts';
import { lengthOf, octetsOf } from './address-bytes.ts';
import { NLM_F_CREATE, NLM_F_REPLACE, RTM_DELROUTE, RTM_NEWROUTE } from './constants.ts';
import type { MessageWriter } from './message.ts';
import {
  destinationOffset,
  type IndexOf,
  lengthOffset,
  NoDeviceError,
  writeRoute,
  writeRouteRemoval,
} from './route.ts';
import type { NetlinkSocket } from './socket.ts';

interface Template {
  readonly form: RouteForm;
  readonly family: Family;
  /** In host order. */
  readonly body: Int32Array;
}

/**
 * Bodies of RTM_NEWROUTE or RTM_DELROUTE one after the other. A route that differs from one before only in its
 * destination, as a hundred thousand through one gateway do, is that one's octets with another destination.
 */
export class RouteWriter {
  #last: Template | undefined;
  readonly #templates = new Map<RouteForm, Template>();

  constructor(private readonly body: (w: MessageWriter, route: Route) => void) {}

  /** @throws NoDeviceError, InputError */
  write(w: MessageWriter, routes: PackedRoutes, at: number): void {
    const form = routes.form(at);
    const family = routes.family(at);
    const template = this.#template(form, family);
    if (!template) {
      this.#first(w, withDestination(form, routes.destination(at)), form, family);
      return;
    }
    const start = w.append(template.body);
    w.setU8(start + lengthOffset, routes.length(at));
    routes.copy(at, w.buffer, start + destinationOffset);
  }

  #template(form: RouteForm, family: Family): Template | undefined {
    const last = this.#last;
    if (last && last.family === family && (last.form === form || alike(last.form, form))) return last;
    const known = this.#templates.get(form);
    if (known?.family !== family) return undefined;
    this.#last = known;
    return known;
  }

  #first(w: MessageWriter, route: Route, form: RouteForm, family: Family): void {
    const from = w.length;
    this.body(w, route);
    this.#last = { form, family, body: new Int32Array(w.written.slice(from).buffer) };
    this.#templates.set(form, this.#last);
  }
}

/** Whether routes of one family are of one form. */
function alike(a: RouteForm, b: RouteForm): boolean {
  if (a.type !== b.type || a.protocol !== b.protocol || a.scope !== b.scope) return false;
  if (a.metric !== b.metric || a.table !== b.table || a.source !== b.source) return false;
  if (a.nextHops === b.nextHops) return true;
  const [x, y] = [a.nextHops[0], b.nextHops[0]];
  if (!x || !y || a.nextHops.length > 1 || b.nextHops.length > 1) return false;
  return x.gateway === y.gateway && x.device === y.device && x.onlink === y.onlink;
}

/** Where one of a batch failed, and why. */
export interface Refusal {
  readonly at: number;
  readonly cause: KernelError;
}

/** First those whose device is not there, then those that the kernel refuses; the others are set. */
export function setRoutes(
  socket: NetlinkSocket,
  routes: PackedRoutes,
  indexesOf: (devices: ReadonlySet<string>) => IndexOf,
): Refusal[] {
  const devices = devicesOf(routes);
  const indexOf = indexesOf(devices);
  const failures = [...devices].some((device) => indexOf(device) === undefined) ? withoutDevice(routes, indexOf) : [];
  const left = failures.length > 0 ? others(routes.count, failures) : undefined;
  const nth = (at: number) => left?.[at] ?? at;
  const writer = new RouteWriter((w, route) => writeRoute(w, route, indexOf));
  const refused = socket.batchOf({
    count: left?.length ?? routes.count,
    type: RTM_NEWROUTE,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (w, at) => writer.write(w, routes, nth(at)),
    operation: (at) => `set route ${routes.destination(nth(at))}`,
  });
  refused.forEach((cause, at) => {
    if (cause) failures.push({ at: nth(at), cause });
  });
  return failures;
}

/** Absence is success. */
export function deleteRoutes(socket: NetlinkSocket, routes: PackedRoutes): Refusal[] {
  const failures: Refusal[] = [];
  const writer = new RouteWriter(writeRouteRemoval);
  const refused = socket.batchOf({
    count: routes.count,
    type: RTM_DELROUTE,
    body: (w, at) => writer.write(w, routes, at),
    operation: (at) => `delete route ${routes.destination(at)}`,
  });
  refused.forEach((cause, at) => {
    if (cause && cause.code !== 'ESRCH') failures.push({ at, cause });
  });
  return failures;
}

/** A list as routes that are written from where they stand. */
export function packedList(list: readonly Route[]): PackedRoutes {
  const nth = (at: number): Route => {
    const found = list[at];
    if (found === undefined) throw new RangeError(`${at} of ${list.length}`);
    return found;
  };
  return {
    count: list.length,
    family: (at) => familyOf(nth(at).destination),
    length: (at) => lengthOf(nth(at).destination),
    copy: (at, into, to) => into.set(octetsOf(cidrParts(nth(at).destination).address), to),
    form: nth,
    destination: (at) => nth(at).destination,
  };
}

function devicesOf(routes: PackedRoutes): ReadonlySet<string> {
  const devices = new Set<string>();
  let last: RouteForm['nextHops'] | undefined;
  for (let at = 0; at < routes.count; at++) {
    const { nextHops } = routes.form(at);
    if (nextHops === last) continue;
    last = nextHops;
    for (const { device } of nextHops) if (device !== undefined) devices.add(device);
  }
  return devices;
}

function withoutDevice(routes: PackedRoutes, indexOf: IndexOf): Refusal[] {
  const failures: Refusal[] = [];
  for (let at = 0; at < routes.count; at++) {
    const { nextHops } = routes.form(at);
    const missing = nextHops.find(({ device }) => device !== undefined && indexOf(device) === undefined)?.device;
    if (missing === undefined) continue;
    const { message } = new NoDeviceError(missing);
    failures.push({ at, cause: new KernelError(`set route ${routes.destination(at)}`, 'ENODEV', message) });
  }
  return failures;
}

function others(count: number, failures: readonly Refusal[]): number[] {
  const failed = new Set(failures.map(({ at }) => at));
  return Array.from({ length: count }, (_, at) => at).filter((at) => !failed.has(at));
}
