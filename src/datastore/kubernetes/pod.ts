import { parseCidr } from '../../model/address.ts';
import { endpointName, hostDeviceName, parseEndpointName } from '../../model/endpoint-name.ts';
import { parseResource, type WorkloadEndpoint } from '../../model/kinds.ts';
import { apiVersion } from '../../model/resource.ts';
import { checkResource } from '../codec.ts';
import type { Key, KeyOf, Type, Value } from '../store.ts';
import { type ApiObject, builtIn } from './resources.ts';
import type { Source } from './source.ts';

/*
 * WorkloadEndpoint: a Pod on the pod network that has an address. The plugin writes addresses and container into
 * annotations; a Pod without these (of another plugin) is taken by the address in its status. Emptied annotations mean
 * that the address is given back, whatever the status still says.
 */

const pods = builtIn('', 'v1', 'Pod', 'pods', true);
const podIp = 'cni.projectcalico.org/podIP';
const podIps = 'cni.projectcalico.org/podIPs';
const containerId = 'cni.projectcalico.org/containerID';
/** Ours: the MAC in the pod, which Calico keeps nowhere, for a repeated ADD and for CHECK. */
const macAnnotation = 'cni.margay.io/mac';
const device = 'eth0';

interface PodSpec {
  readonly nodeName?: string;
  readonly hostNetwork?: boolean;
  readonly serviceAccountName?: string;
  readonly containers?: readonly {
    readonly ports?: readonly {
      readonly name?: string;
      readonly protocol?: string;
      readonly containerPort?: number;
      readonly hostPort?: number;
      readonly hostIP?: string;
    }[];
  }[];
}

interface PodStatus {
  readonly phase?: string;
  readonly podIP?: string;
  readonly podIPs?: readonly { readonly ip?: string }[];
}

/**
 * @param interfacePrefix how names of pods' devices begin
 * @param all whether Pods without an address are endpoints too, as soon as they have a node
 */
export function podSource(interfacePrefix: string, all = false): Source {
  return {
    type: 'WorkloadEndpoint',
    resource: pods,
    digest: true,
    place: (key) => {
      const { name, namespace = '' } = key as KeyOf<'WorkloadEndpoint'>;
      const parts = parseEndpointName(name);
      return parts?.endpoint === device ? { resource: pods, namespace, name: parts.pod } : undefined;
    },
    keyOf: podKey,
    read: (object, key) => readPod(object, key, interfacePrefix, all),
    writer: {
      by: 'annotate',
      annotations: (key, value) => {
        const { spec } = checkResource(key, value as WorkloadEndpoint) as WorkloadEndpoint;
        return {
          [podIp]: spec.ipNetworks[0] ?? '',
          [podIps]: spec.ipNetworks.join(','),
          [containerId]: spec.containerID ?? null,
          [macAnnotation]: spec.mac ?? null,
        };
      },
      // The container stays, as Calico leaves it: a late DEL of an earlier one is told by it.
      cleared: { [podIp]: '', [podIps]: '' },
    },
  };
}

function podKey({ metadata, spec = {} }: ApiObject): Key | undefined {
  const { nodeName, hostNetwork } = spec as PodSpec;
  if (!nodeName || hostNetwork || metadata.namespace === undefined) return undefined;
  return {
    type: 'WorkloadEndpoint',
    namespace: metadata.namespace,
    name: endpointName(nodeName, metadata.name, device),
  };
}

function readPod(object: ApiObject, key: Key, interfacePrefix: string, all: boolean): Value<Type> | undefined {
  const { metadata } = object;
  const { name, namespace = '', uid, creationTimestamp, resourceVersion, annotations = {} } = metadata;
  const spec = (object.spec ?? {}) as PodSpec;
  const status = (object.status ?? {}) as PodStatus;
  const addresses = status.phase === 'Succeeded' || status.phase === 'Failed' ? [] : addressesOf(annotations, status);
  if (addresses.length === 0 && !all) return undefined;
  const account = spec.serviceAccountName || 'default';
  return parseResource('WorkloadEndpoint', {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: (key as KeyOf<'WorkloadEndpoint'>).name,
      namespace,
      ...(uid !== undefined && { uid }),
      ...(creationTimestamp !== undefined && { creationTimestamp }),
      ...(resourceVersion !== undefined && { resourceVersion }),
      labels: labelsOf(metadata.labels, namespace, account),
      ...withWishes(annotations),
    },
    spec: {
      orchestrator: 'k8s',
      node: spec.nodeName,
      ...(annotations[containerId] && { containerID: annotations[containerId] }),
      pod: name,
      endpoint: device,
      serviceAccountName: account,
      ipNetworks: addresses.map((text) => networkOf(text, `Pod(${namespace}/${name}).metadata.annotations.${podIps}`)),
      profiles: [`kns.${namespace}`, `ksa.${namespace}.${account}`],
      interfaceName: hostDeviceName(interfacePrefix, namespace, name),
      ...(annotations[macAnnotation] && { mac: annotations[macAnnotation] }),
      ports: portsOf(spec),
    },
  }) as Value<Type>;
}

/** The annotations where there are any, empty or not; else what the kubelet reports. */
function addressesOf(annotations: Readonly<Record<string, string>>, { podIP, podIPs = [] }: PodStatus): string[] {
  const written = annotations[podIps] || (annotations[podIp] ?? annotations[podIps]);
  if (written !== undefined) return written.split(',').flatMap((text) => text.trim() || []);
  const reported = podIPs.flatMap(({ ip }) => ip || []);
  return reported.length > 0 ? reported : podIP ? [podIP] : [];
}

/** An address is what a pod has, whatever prefix length was written beside it. @throws InputError */
function networkOf(text: string, where: string): string {
  parseCidr(text, where);
  return parseCidr(text.split('/')[0] ?? '', where);
}

function labelsOf(labels: Readonly<Record<string, string>> | undefined, namespace: string, account: string) {
  const own = Object.entries(labels ?? {}).filter(([key]) => !key.startsWith('pcns.') && !key.startsWith('pcsa.'));
  return {
    ...Object.fromEntries(own),
    'projectcalico.org/namespace': namespace,
    'projectcalico.org/orchestrator': 'k8s',
    'projectcalico.org/serviceaccount': account,
  };
}

/** Of a Pod's annotations, those of which an endpoint's limits and source addresses are made. */
const wishes =
  /^(qos\.projectcalico\.org\/|kubernetes\.io\/(in|e)gress-bandwidth$|cni\.projectcalico\.org\/allowedSourcePrefixes$)/;

function withWishes(annotations: Readonly<Record<string, string>>) {
  const found = Object.entries(annotations).filter(([name]) => wishes.test(name));
  return found.length > 0 ? { annotations: Object.fromEntries(found) } : {};
}

/** Named ports of all containers, and those published on the host. */
function portsOf({ containers = [] }: PodSpec) {
  return containers.flatMap(({ ports = [] }) =>
    ports.flatMap(({ name, protocol = 'TCP', containerPort, hostPort, hostIP }) =>
      containerPort === undefined || (!name && !hostPort)
        ? []
        : [
            {
              name: name ?? '',
              protocol,
              port: containerPort,
              ...(hostPort && { hostPort }),
              ...(hostIP && { hostIP }),
            },
          ],
    ),
  );
}
