import type { Ip } from '../model/address.ts';
import { familyOf, hostCidr } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import type { Attachment, Pod } from './request.ts';

/* The WorkloadEndpoint resource of a pod, as Calico's plugin writes it to etcd. */

const serviceAccountLabel = 'projectcalico.org/serviceaccount';

export interface EndpointFacts {
  readonly node: string;
  readonly name: string;
  readonly pod: Pod;
  readonly attachment: Attachment;
  readonly interfaceName: string;
  readonly mac: string;
  readonly addresses: readonly Ip[];
  readonly uid: string;
  readonly now: Date;
}

/** The resource to store. The service account is taken from the labels, the runtime's or Kubernetes'; without one it is `default`. */
export function buildEndpoint(facts: EndpointFacts): WorkloadEndpoint {
  const { pod, attachment } = facts;
  const { labels, bandwidth } = attachment.network;
  const { ports, annotations } = attachment.facts ?? {};
  const account = labels[serviceAccountLabel];
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: facts.name,
      namespace: pod.namespace,
      uid: facts.uid,
      creationTimestamp: `${facts.now.toISOString().slice(0, 19)}Z`,
      labels: endpointLabels(labels, pod.namespace),
      ...(annotations && Object.keys(annotations).length > 0 && { annotations }),
    },
    spec: {
      orchestrator: 'k8s',
      node: facts.node,
      containerID: attachment.containerId,
      pod: pod.name,
      endpoint: attachment.ifName,
      ...(account !== undefined && { serviceAccountName: account }),
      ipNetworks: facts.addresses.map(hostCidr),
      profiles: [`kns.${pod.namespace}`, `ksa.${pod.namespace}.${account ?? 'default'}`],
      interfaceName: facts.interfaceName,
      mac: facts.mac,
      ...(ports && ports.length > 0 && { ports: [...ports] }),
      ...(bandwidth && { qosControls: { ...bandwidth } }),
    },
  };
}

/** The pod's labels and the reserved ones. Those that profiles own (`pcns.`, `pcsa.`) cannot be given by a pod. */
export function endpointLabels(labels: Readonly<Record<string, string>>, namespace: string): Record<string, string> {
  const kept = Object.entries(labels).filter(([key]) => !key.startsWith('pcns.') && !key.startsWith('pcsa.'));
  return {
    ...Object.fromEntries(kept),
    'projectcalico.org/namespace': namespace,
    'projectcalico.org/orchestrator': 'k8s',
  };
}

/** Addresses of an endpoint, IPv4 first. */
export function addressesOf(endpoint: WorkloadEndpoint): Ip[] {
  const addresses = endpoint.spec.ipNetworks.map((cidr) => cidr.split('/')[0] as Ip);
  return addresses.sort((a, b) => familyOf(a) - familyOf(b));
}
