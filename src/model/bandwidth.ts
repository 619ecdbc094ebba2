import { InputError } from '../base/errors.ts';
import { type Cidr, parseCidr } from './address.ts';
import type { WorkloadEndpoint } from './kinds.ts';

/** How much a pod may send or receive. */
export interface Bandwidth {
  /** Bits a second. */
  readonly rate: number;
  /** Bits beyond the rate that go at once; undefined: as the dataplane sees fit. */
  readonly burst?: number;
}

/** How many packets a pod may send or receive. */
export interface PacketRate {
  /** Packets a second. */
  readonly rate: number;
  /** Packets that go at once. */
  readonly burst: number;
}

/** What an endpoint asks of the dataplane beyond its addresses. */
export interface EndpointWishes {
  /** To the pod. */
  readonly ingress?: Bandwidth;
  /** From the pod. */
  readonly egress?: Bandwidth;
  readonly ingressPackets?: PacketRate;
  readonly egressPackets?: PacketRate;
  /** TCP connections at one time that others opened to the pod. */
  readonly ingressConnections?: number;
  /** As many that the pod opened. */
  readonly egressConnections?: number;
  /** Sources that it may send from besides its own addresses. */
  readonly sourcePrefixes: readonly Cidr[];
}

/** Calico's limits: 1k to 1P bit/s, and a burst of at most 4Gi octets; 1 to 10,000 packets, and a burst of 5 unless named. */
const limits = {
  rate: [1e3, 1e15],
  burst: [1, 8 * 2 ** 32],
  packets: [1, 10_000],
  connections: [1, 2 ** 32 - 1],
} as const;
const usualPacketBurst = 5;

type Way = 'ingress' | 'egress';

/**
 * The fields of the spec, as Calico's plugin fills them, and where they are missing the annotations that the fields are
 * made of: `qos.projectcalico.org/ingressBandwidth` (before `kubernetes.io/ingress-bandwidth`), `…PacketRate`,
 * `…MaxConnections` and so on, and `cni.projectcalico.org/allowedSourcePrefixes`. What is out of range is brought into it.
 * @throws InputError naming the field or annotation
 */
export function endpointWishes({ metadata, spec }: Pick<WorkloadEndpoint, 'metadata' | 'spec'>): EndpointWishes {
  const where = `WorkloadEndpoint(${metadata.name})`;
  const annotations = metadata.annotations ?? {};
  const { qosControls } = spec;
  const annotated = (name: string) => {
    const text = annotations[name];
    return text === undefined ? undefined : quantity(text, `${where}.metadata.annotations.${name}`);
  };
  const named = (name: QosField) => qosControls?.[name] ?? annotated(`qos.projectcalico.org/${name}`);
  const bandwidth = (way: Way): Bandwidth | undefined => {
    const rate = named(`${way}Bandwidth`) ?? annotated(`kubernetes.io/${way}-bandwidth`);
    const burst = named(`${way}Burst`);
    if (!rate) return undefined;
    return { rate: within(rate, limits.rate), ...(burst && { burst: within(burst, limits.burst) }) };
  };
  const packets = (way: Way): PacketRate | undefined => {
    const rate = named(`${way}PacketRate`);
    const burst = named(`${way}PacketBurst`) || usualPacketBurst;
    return rate ? { rate: within(rate, limits.packets), burst: within(burst, limits.packets) } : undefined;
  };
  const connections = (way: Way): number | undefined => {
    const most = named(`${way}MaxConnections`);
    return most ? within(most, limits.connections) : undefined;
  };
  return {
    ...given({ ingress: bandwidth('ingress'), egress: bandwidth('egress') }),
    ...given({ ingressPackets: packets('ingress'), egressPackets: packets('egress') }),
    ...given({ ingressConnections: connections('ingress'), egressConnections: connections('egress') }),
    sourcePrefixes: spec.allowSpoofedSourcePrefixes?.map((text) => parseCidr(text)) ?? prefixesOf(annotations, where),
  };
}

type QosField = `${Way}${'Bandwidth' | 'Burst' | 'PacketRate' | 'PacketBurst' | 'MaxConnections'}`;

/** Without the members that are undefined. */
function given<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as ReturnType<
    typeof given<T>
  >;
}

/** A JSON list of prefixes. */
function prefixesOf(annotations: Readonly<Record<string, string>>, where: string): Cidr[] {
  const name = 'cni.projectcalico.org/allowedSourcePrefixes';
  const text = annotations[name];
  if (text === undefined || text === '') return [];
  const field = `${where}.metadata.annotations.${name}`;
  const list = jsonOf(text, field);
  if (!Array.isArray(list) || !list.every((one) => typeof one === 'string'))
    throw new InputError(field, text, 'a JSON list of prefixes, ["10.0.0.0/8"]');
  return list.map((one) => parseCidr(one, field));
}

function jsonOf(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(field, text, 'a JSON list of prefixes, ["10.0.0.0/8"]', { cause });
  }
}

const suffixes: Readonly<Record<string, number>> = {
  '': 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A Kubernetes quantity, `10M` or `1.5Gi`. @throws InputError */
function quantity(text: string, field: string): number {
  const [, digits = '', suffix = ''] = /^(\d{1,18}(?:\.\d{1,9})?)([A-Za-z]{0,2})$/.exec(text.trim()) ?? [];
  const factor = Object.hasOwn(suffixes, suffix) ? suffixes[suffix] : undefined;
  if (digits === '' || factor === undefined) throw new InputError(field, text, 'a quantity such as 10M');
  return Math.floor(Number(digits) * factor);
}

function within(value: number, [least, most]: readonly [number, number]): number {
  return Math.min(most, Math.max(least, value));
}
