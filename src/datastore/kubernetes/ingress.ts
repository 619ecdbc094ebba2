import type { Ip } from '../../model/address.ts';
import type { ApiClient } from './client.ts';
import type { Place } from './resources.ts';

/** All addresses, or those that stand there without some; what is no address of these, a host's name, stays then. */
export type ServiceAddresses = { readonly all: readonly Ip[] } | { readonly without: readonly Ip[] };

interface Ingress {
  readonly ip?: string;
}

/** Writes `status.loadBalancer.ingress` of a Service by compare-and-swap. */
export async function writeIngress(
  client: ApiClient,
  place: Place,
  change: ServiceAddresses,
): Promise<'written' | 'conflict' | 'missing'> {
  const found = await client.get(place);
  if (found === undefined) return 'missing';
  const { loadBalancer } = (found.status ?? {}) as { loadBalancer?: { ingress?: readonly Ingress[] } };
  const before = loadBalancer?.ingress ?? [];
  const gone = new Set<string>('without' in change ? change.without : []);
  const ingress =
    'all' in change ? change.all.map((ip) => ({ ip })) : before.filter(({ ip }) => ip === undefined || !gone.has(ip));
  const { resourceVersion } = found.metadata;
  const patch = { metadata: { resourceVersion }, status: { loadBalancer: { ingress } } };
  return (await client.patch(place, patch, '/status')).outcome;
}
