import { InputError } from '../base/errors.ts';
import { type Family, type Ip, parseIp } from '../model/address.ts';

/*
 * What a question is about, and how people write it. Whoever only asks an agent needs no more than this.
 */

export interface Question {
  readonly source: End;
  readonly destination: End;
  readonly transport: Transport;
  /** Where both ends have both: 4 unless told. */
  readonly family?: Family;
}

export type Party = { readonly address: Ip } | { readonly namespace: string; readonly pod: string };
/** An end of a connection; `host` is a node itself. */
export type End = Party | { readonly host: string };
export type Transport =
  | { readonly protocol: 'tcp' | 'udp' | 'sctp'; readonly port: number }
  | { readonly protocol: 'icmp' };

export interface ServiceEnd {
  readonly namespace: string;
  readonly service: string;
}

export type ServiceProtocol = 'tcp' | 'udp' | 'sctp';

export interface ServiceQuestion {
  readonly source: End;
  readonly destination: ServiceEnd;
  /** Number or name. */
  readonly port: number | string;
  /** Absent: TCP for a number, whatever it is for a name. */
  readonly protocol?: ServiceProtocol;
  readonly family?: Family;
}

/** About a pod, an address, a node or a service. */
export type AnyQuestion = Question | ServiceQuestion;

/** What `parseParty` reads, or `host:node`. @throws InputError naming `field` */
export function parseEnd(text: string, namespace: string, field: string): End {
  const host = /^host:([a-z0-9][a-z0-9.-]{0,252})$/i.exec(text)?.[1];
  return host === undefined ? parseParty(text, namespace, field) : { host };
}

/** `pod`, `namespace/pod`, an address, or an IPv6 address in brackets. @throws InputError naming `field` */
export function parseParty(text: string, namespace: string, field: string): Party {
  const bare = /^\[(.+)\]$/.exec(text)?.[1] ?? text;
  if (/^[\d.]+$/.test(bare) || bare.includes(':')) return { address: parseIp(bare, field) };
  const found = /^(?:([a-z0-9-]{1,63})\/)?([a-z0-9][a-z0-9.-]{0,252})$/.exec(bare);
  if (!found?.[2]) throw new InputError(field, text, 'a pod, namespace/pod, or an address');
  return { namespace: found[1] ?? namespace, pod: found[2] };
}

/** `party:port`, `party:port/udp` or `party:icmp`. @throws InputError naming `field` */
export function parseTarget(text: string, namespace: string, field: string): { party: End; transport: Transport } {
  const found = /^(\[[^\]]*\]|(?:host:)?[^[\]:]+):(?:(\d{1,5})(?:\/(tcp|udp|sctp))?|(icmp))$/i.exec(text);
  const port = Number(found?.[2] ?? 1);
  if (!found?.[1] || port < 1 || port > 65535)
    throw new InputError(field, text, 'POD:PORT, POD:PORT/udp or POD:icmp, an IPv6 address in brackets');
  const party = parseEnd(found[1], namespace, field);
  if (found[4]) return { party, transport: { protocol: 'icmp' } };
  const protocol = (found[3] ?? 'tcp').toLowerCase() as 'tcp' | 'udp' | 'sctp';
  return { party, transport: { protocol, port } };
}

/**
 * `svc:service:port` or `svc:namespace/service:port`, the port by number or name, and what `parseTarget` reads.
 * @throws InputError naming `field`
 */
export function parseDestination(
  text: string,
  namespace: string,
  field: string,
): Pick<ServiceQuestion, 'destination' | 'port' | 'protocol'> | Pick<Question, 'destination' | 'transport'> {
  if (!/^svc:/i.test(text)) {
    const { party: destination, transport } = parseTarget(text, namespace, field);
    return { destination, transport };
  }
  const shape = /^svc:(?:([a-z0-9-]{1,63})\/)?([a-z0-9-]{1,63}):(?:(\d{1,5})|([a-z0-9-]{1,15}))(?:\/(tcp|udp|sctp))?$/i;
  const [, space = namespace, service, number, name, protocol] = shape.exec(text) ?? [];
  const port = number === undefined ? name : Number(number);
  if (!service || port === undefined || (typeof port === 'number' && (port < 1 || port > 65535)))
    throw new InputError(field, text, 'svc:SERVICE:PORT, with NAMESPACE/SERVICE, a port by name, or PORT/udp');
  return {
    destination: { namespace: space, service },
    port,
    ...(protocol !== undefined && { protocol: protocol.toLowerCase() as ServiceProtocol }),
  };
}
