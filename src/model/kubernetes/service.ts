import type { EndpointSlice, Service } from '../kinds.ts';
import type { KubernetesEndpointSlice, KubernetesService } from './schema.ts';

/** Names the Service that an EndpointSlice belongs to; set by whoever makes slices. */
export const serviceNameLabel = 'kubernetes.io/service-name';

type Input<S> = { readonly [K in keyof S]?: unknown };

/** Addresses, ports and traffic policies of a v1 Service; a field that says nothing is left to its default. */
export function serviceSpecOf({ spec, status }: KubernetesService): Input<Service['spec']> {
  const clusterIPs = (spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : [])).filter(isAddress);
  const ingress = (status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
  return {
    type: spec.type ?? 'ClusterIP',
    ...(clusterIPs.length > 0 ? { clusterIPs } : {}),
    ...(spec.externalIPs?.length ? { externalIPs: spec.externalIPs } : {}),
    ...(ingress.length > 0 ? { loadBalancerIPs: ingress } : {}),
    ...(spec.loadBalancerClass ? { loadBalancerClass: spec.loadBalancerClass } : {}),
    ...(spec.externalTrafficPolicy ? { externalTrafficPolicy: spec.externalTrafficPolicy } : {}),
    ...(spec.internalTrafficPolicy ? { internalTrafficPolicy: spec.internalTrafficPolicy } : {}),
    ...(spec.ports?.length
      ? {
          ports: spec.ports.map(({ name, protocol, port }) => ({
            ...(name ? { name } : {}),
            ...(protocol ? { protocol } : {}),
            port,
          })),
        }
      : {}),
  };
}

/** A headless service says `None`. */
function isAddress(text: string): boolean {
  return text !== '' && text !== 'None';
}

/** The endpoints of a discovery.k8s.io/v1 EndpointSlice, without what nothing here reads. */
export function endpointSliceSpecOf(slice: KubernetesEndpointSlice): Input<EndpointSlice['spec']> {
  const name = slice.metadata.labels?.[serviceNameLabel];
  return {
    ...(name ? { service: name } : {}),
    addressType: slice.addressType,
    endpoints: (slice.endpoints ?? []).map(({ addresses, nodeName, conditions }) => ({
      addresses: addresses ?? [],
      ...(nodeName ? { nodeName } : {}),
      conditions: Object.fromEntries(
        (['ready', 'serving', 'terminating'] as const).flatMap((key) => {
          const value = conditions?.[key];
          return typeof value === 'boolean' ? [[key, value]] : [];
        }),
      ),
    })),
    ports: (slice.ports ?? []).map(({ name, protocol, port }) => ({
      ...(name ? { name } : {}),
      ...(protocol ? { protocol } : {}),
      ...(port ? { port } : {}),
    })),
  };
}
