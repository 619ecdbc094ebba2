import type { PodFacts } from '../datastore/store.ts';
import type { Family } from '../model/address.ts';
import { addressWishes } from './annotations.ts';
import type { Working } from './context.ts';
import { CniError, cniCodes } from './error.ts';
import type { CniRequest } from './request.ts';

type AddRequest = Extract<CniRequest, { verb: 'ADD' | 'CHECK' }>;

/**
 * The request with what Kubernetes knows of the pod, where it can be asked: its labels, so that the endpoint is written
 * as policy selects it and never stands without them, and what annotations ask of its addresses.
 * @throws InputError for an annotation that is not understood; StoreUnavailableError; CniError
 */
export async function withPodFacts(context: Working, request: AddRequest): Promise<AddRequest> {
  if (context.podFacts === undefined) return request;
  const { namespace, name } = request.pod;
  const facts = await context.podFacts(namespace, name);
  if (facts === undefined)
    throw new CniError(cniCodes.tryAgain, `Pod(${namespace}/${name}): Kubernetes has no such pod on the pod network`);
  return applied(request, facts, context.config.podCidr ?? false);
}

function applied(request: AddRequest, facts: PodFacts, podCidr: boolean): AddRequest {
  const { network, pod } = request;
  const name = `${pod.namespace}/${pod.name}`;
  const wishes = addressWishes({
    ...{ name, pod: facts.annotations, namespace: facts.namespace.annotations },
    bare: network.bareAddresses ?? false,
  });
  if (podCidr && (wishes.addresses ?? wishes.bareAddresses ?? wishes.pools[4] ?? wishes.pools[6]) !== undefined)
    throw new CniError(
      cniCodes.config,
      `Pod(${name}): its annotations name addresses or pools: expected none where ipam.type is host-local`,
    );
  const poolsOf = (family: Family) => wishes.pools[family] ?? network.poolsOf[family];
  return {
    ...request,
    facts: {
      namespaceLabels: facts.namespace.labels,
      ports: facts.ports,
      annotations: facts.endpointAnnotations,
      ...(wishes.addresses && { addresses: wishes.addresses }),
      ...(wishes.bareAddresses && { bareAddresses: wishes.bareAddresses }),
      ...(wishes.mac !== undefined && { mac: wishes.mac }),
    },
    network: {
      ...network,
      labels: facts.labels,
      poolsOf: { 4: poolsOf(4), 6: poolsOf(6) },
      ...(wishes.families && { families: wishes.families }),
    },
  };
}
