import { cidrParts, type Family, familyOf } from '../../model/address.ts';
import { withDestination } from '../route.ts';
import { KernelError, type PackedRoutes, type Route, type RouteForm } from '../types.ts';
import { lengthOf, octetsOf } from './address-bytes.ts';
import { NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, RTM_DELROUTE, RTM_NEWROUTE } from './constants.ts';
import { type MessageWriter, messageHeader } from './message.ts';
import type { Most } from './requests.ts';
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
  /** A whole message, in host order. */
  readonly message: Int32Array;
}

/** How many messages, and where the last one begins. */
interface Written {
  readonly count: number;
  readonly last: number;
}

/** RTM_NEWROUTE or RTM_DELROUTE: its type, its flags beyond REQUEST, and its body. */
export interface RouteMessage {
  readonly type: number;
  readonly flags?: number;
  /** @throws NoDeviceError, InputError */
  readonly body: (w: MessageWriter, route: Route) => void;
  /** Of forms that name no device, whose number another device may have tomorrow. */
  readonly kept?: WeakMap<RouteForm, Template>;
}

const keptToSet = new WeakMap<RouteForm, Template>();

/**
 * Messages one after the other. Routes that differ in their destinations only, as a hundred thousand through one gateway
 * do, are so many copies of one message, with other destinations.
 */
export class RouteWriter {
  #last: Template | undefined;
  readonly #templates = new Map<RouteForm, Template>();

  constructor(private readonly message: RouteMessage) {}

  /**
   * Writes messages from the route at `from` on, numbered from `sequence` on, as many as there are and may be; returns
   * how many, and where the last begins. @throws NoDeviceError, InputError
   */
  write(w: MessageWriter, routes: PackedRoutes, from: number, most: Most, sequence: number): Written {
    let count = 0;
    let last = w.length;
    while (count < most.messages && from + count < routes.count) {
      const at = from + count;
      const { message } = this.#template(w, routes, at);
      const stride = message.byteLength;
      const room = Math.floor((most.octets - w.length) / stride);
      if (room < 1 && count > 0) break;
      const alike = Math.min(routes.alike(at), most.messages - count, Math.max(1, room));
      const start = w.repeat(message, alike, sequence + count);
      const body = start + messageHeader;
      const [lengthAt, addressAt] = [body + lengthOffset, body + destinationOffset];
      routes.place(at, { bytes: w.buffer, lengthAt, addressAt, stride, count: alike });
      last = start + (alike - 1) * stride;
      count += alike;
    }
    return { count, last };
  }

  #template(w: MessageWriter, routes: PackedRoutes, at: number): Template {
    const form = routes.form(at);
    const family = routes.family(at);
    const last = this.#last;
    if (last && last.family === family && (last.form === form || alike(last.form, form))) return last;
    const known = this.#templates.get(form) ?? this.message.kept?.get(form);
    this.#last =
      known?.family === family ? known : this.#make(w, withDestination(form, routes.destination(at)), form, family);
    return this.#last;
  }

  /** The writer is left as it was. */
  #make(w: MessageWriter, route: Route, form: RouteForm, family: Family): Template {
    const { type, flags = 0, body } = this.message;
    const header = w.begin(type, flags | NLM_F_REQUEST, 0);
    body(w, route);
    w.end(header);
    const template = { form, family, message: new Int32Array(w.written.slice(header).buffer) };
    w.truncate(header);
    this.#templates.set(form, template);
    if (form.nextHops.every(({ device }) => device === undefined)) this.message.kept?.set(form, template);
    return template;
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
  const body: RouteMessage['body'] = (w, route) => writeRoute(w, route, indexOf);
  const message = { type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, body, kept: keptToSet };
  const refused = writeAll(socket, message, left ? some(routes, left) : routes, 'set');
  for (const { at, cause } of refused) failures.push({ at: nth(at), cause });
  return failures;
}

/** Absence is success. */
export function deleteRoutes(socket: NetlinkSocket, routes: PackedRoutes): Refusal[] {
  const message = { type: RTM_DELROUTE, body: writeRouteRemoval };
  return writeAll(socket, message, routes, 'delete').filter(({ cause }) => cause.code !== 'ESRCH');
}

function writeAll(socket: NetlinkSocket, message: RouteMessage, routes: PackedRoutes, verb: string): Refusal[] {
  const writer = new RouteWriter(message);
  const failures: Refusal[] = [];
  const refused = socket.batchPacked({
    count: routes.count,
    write: (w, at, most, sequence) => writer.write(w, routes, at, most, sequence),
    operation: (at) => `${verb} route ${routes.destination(at)}`,
  });
  refused.forEach((cause, at) => {
    if (cause) failures.push({ at, cause });
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
    form: nth,
    alike: () => 1,
    place: (at, { bytes, lengthAt, addressAt, stride, count }) => {
      for (let i = 0; i < count; i++) {
        const { destination } = nth(at + i);
        bytes[lengthAt + i * stride] = lengthOf(destination);
        bytes.set(octetsOf(cidrParts(destination).address), addressAt + i * stride);
      }
    },
    destination: (at) => nth(at).destination,
  };
}

/** Of the routes those whose places are listed. */
function some(routes: PackedRoutes, places: readonly number[]): PackedRoutes {
  const nth = (at: number) => places[at] ?? 0;
  return {
    count: places.length,
    family: (at) => routes.family(nth(at)),
    form: (at) => routes.form(nth(at)),
    alike: () => 1,
    place: (at, run) => routes.place(nth(at), run),
    destination: (at) => routes.destination(nth(at)),
  };
}

function devicesOf(routes: PackedRoutes): ReadonlySet<string> {
  const devices = new Set<string>();
  let last: RouteForm['nextHops'] | undefined;
  for (let at = 0; at < routes.count; at += routes.alike(at)) {
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
