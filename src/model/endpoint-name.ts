import { createHash } from 'node:crypto';

/* Names of pods' endpoints and devices, on which the plugin, the agents and the datastore must agree. */

/** Host end of a pod's pair: prefix and the first 11 hex digits of SHA-1 of `<namespace>.<pod>`. */
export function hostDeviceName(prefix: string, namespace: string, pod: string): string {
  return prefix + createHash('sha1').update(`${namespace}.${pod}`).digest('hex').slice(0, 11);
}

/** `<node>-k8s-<pod>-<endpoint>`, with dashes doubled inside a part. */
export function endpointName(node: string, pod: string, endpoint: string): string {
  return [node, 'k8s', pod, endpoint].map((part) => part.replaceAll('-', '--')).join('-');
}

/** The parts of an endpoint's name; undefined for a name that `endpointName` does not make. */
export function parseEndpointName(name: string): { node: string; pod: string; endpoint: string } | undefined {
  const parts = name.replaceAll('--', '\0').split('-');
  const [node, orchestrator, pod, endpoint] = parts.map((part) => part.replaceAll('\0', '-'));
  if (parts.length !== 4 || orchestrator !== 'k8s' || !node || !pod || !endpoint) return undefined;
  return { node, pod, endpoint };
}
