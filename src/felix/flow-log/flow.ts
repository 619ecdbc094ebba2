import { InputError } from '../../base/errors.ts';
import { type Ip, parseIp } from '../../model/address.ts';

/** One end of a told packet; the pod that had the address when it was told. */
export interface FlowEnd {
  readonly address: Ip;
  readonly port?: number;
  readonly namespace?: string;
  readonly pod?: string;
}

/** What made a verdict, in the words of `explain`; `unknown` when its policy is gone since. */
export type FlowReason =
  | { readonly by: 'policy' | 'profile'; readonly tier?: string; readonly policy: string; readonly rule: number }
  | { readonly by: 'tierDefault'; readonly tier: string }
  | { readonly by: 'noProfile' }
  | { readonly by: 'unknown' };

/** A verdict of policy on a packet, as the kernel told it. */
export interface Flow {
  /** Counts from 1 since felix started. */
  readonly number: number;
  /** When it was read, up to a second after the packet. */
  readonly at: string;
  readonly verdict: 'allow' | 'deny';
  /** As the endpoint whose policy was asked sees it. */
  readonly direction: 'ingress' | 'egress';
  /** IP protocol number. */
  readonly protocol: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
  readonly reason: FlowReason;
  /** Where the rule stands in the kernel's filter table. */
  readonly chain: string;
}

export interface FlowFilter {
  readonly verdict?: Flow['verdict'];
  /** Either end. */
  readonly pod?: { readonly namespace: string; readonly pod: string };
  readonly address?: Ip;
}

/** `verdict=deny`, `pod=namespace/name`, `address=10.0.0.1`. @throws InputError naming the parameter */
export function parseFlowFilter(query: URLSearchParams): FlowFilter {
  const [verdict, pod, address] = ['verdict', 'pod', 'address'].map((name) => query.get(name));
  if (verdict && verdict !== 'allow' && verdict !== 'deny') throw new InputError('verdict', verdict, 'allow or deny');
  const [, namespace, name] = /^([^/]+)\/([^/]+)$/.exec(pod ?? '') ?? [];
  if (pod && (namespace === undefined || name === undefined))
    throw new InputError('pod', pod, 'a namespace and a name, as in shop/web');
  return {
    ...((verdict === 'allow' || verdict === 'deny') && { verdict }),
    ...(namespace !== undefined && name !== undefined && { pod: { namespace, pod: name } }),
    ...(address && { address: parseIp(address, 'address') }),
  };
}

export function matchesFlow({ verdict, pod, address }: FlowFilter, flow: Flow): boolean {
  if (verdict !== undefined && flow.verdict !== verdict) return false;
  const ends = [flow.source, flow.destination];
  if (pod && !ends.some((end) => end.namespace === pod.namespace && end.pod === pod.pod)) return false;
  return address === undefined || ends.some((end) => end.address === address);
}
