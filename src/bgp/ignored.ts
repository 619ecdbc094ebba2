import type { Problem } from './config.ts';
import type { Objects } from './objects.ts';

/** Fields of BGPConfiguration whose effect somebody may count on, and that are not followed. */
const ignored: Readonly<Record<string, { readonly detail: string; readonly harmless?: unknown }>> = {
  ignoredInterfaces: { detail: 'the speaker takes no routes from interfaces, so none can be left out' },
  localWorkloadPeeringIPV4: { detail: 'peering with pods of the node is not offered' },
  localWorkloadPeeringIPV6: { detail: 'peering with pods of the node is not offered' },
  ipv4NormalRoutePriority: { detail: 'felix gives routes no priority of their own', harmless: 1024 },
  ipv6NormalRoutePriority: { detail: 'felix gives routes no priority of their own', harmless: 1024 },
  programClusterRoutes: { detail: 'felix programs the routes of every peer', harmless: 'EnabledNoEncapOnly' },
};

/** What is configured and has no effect, each said once. */
export function ignoredFields({ configuration, peers }: Pick<Objects, 'configuration' | 'peers'>): Problem[] {
  const problems: Problem[] = [];
  for (const [field, { detail, harmless }] of Object.entries(ignored)) {
    const value = configuration?.spec[field];
    if (value === undefined || value === null || value === '' || value === harmless) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    problems.push({ object: `BGPConfiguration(default).spec.${field}`, detail: `has no effect: ${detail}` });
  }
  for (const { name, reachableBy } of peers.values()) {
    if (!reachableBy) continue;
    const detail = `has no effect: no route to the peer is made; the node needs one by other means`;
    problems.push({ object: `BGPPeer(${name}).spec.reachableBy`, detail });
  }
  return problems;
}
