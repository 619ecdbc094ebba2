import type { Key, PodFacts, Value } from '../store.ts';
import type { ApiClient } from './client.ts';
import { podSource } from './pod.ts';
import { type ApiObject, builtIn } from './resources.ts';

const namespaces = builtIn('', 'v1', 'Namespace', 'namespaces', false);
/** With Pods that have no address yet; the name of the device is not asked for. */
const source = podSource('cali', true);
const { resource: pods } = source;

/**
 * A pod and its namespace, as the API has them now.
 * @throws StoreUnavailableError; InputError where the Pod is none that an endpoint could be made of
 */
export async function readPodFacts(client: ApiClient, namespace: string, name: string): Promise<PodFacts | undefined> {
  const [pod, inside] = await Promise.all([
    client.get({ resource: pods, namespace, name }),
    client.get({ resource: namespaces, name: namespace }),
  ]);
  const key = pod && source.keyOf(pod);
  if (pod === undefined || key === undefined || inside === undefined) return undefined;
  return factsOf(pod, key, inside);
}

function factsOf(pod: ApiObject, key: Key, namespace: ApiObject): PodFacts {
  const endpoint = source.read(pod, key) as Value<'WorkloadEndpoint'>;
  return {
    labels: endpoint.metadata.labels ?? {},
    ports: endpoint.spec.ports ?? [],
    annotations: pod.metadata.annotations ?? {},
    endpointAnnotations: endpoint.metadata.annotations ?? {},
    namespace: { labels: namespace.metadata.labels ?? {}, annotations: namespace.metadata.annotations ?? {} },
  };
}
