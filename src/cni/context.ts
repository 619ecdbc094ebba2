import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Key, Store } from '../datastore/store.ts';
import type { Netlink } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import type { DatastoreGate } from './gate.ts';
import { endpointName, handleId, hostDeviceName } from './names.ts';
import type { AddressPool, Felix, OpenPod } from './ports.ts';
import type { Pod } from './request.ts';

export interface CniSettings {
  /** MTU of pod devices where the network configuration names none. */
  readonly mtu: number;
  /** First of FELIX_INTERFACEPREFIX, `cali`. */
  readonly interfacePrefix: string;
  /** Families that a pod gets where the network configuration does not say. */
  readonly families: readonly Family[];
  /** Addresses are of the node's podCIDRs, and not of pools. */
  readonly podCidr?: boolean;
  /** How long ADD waits for the endpoint's policy; then it fails. */
  readonly policyTimeoutMs?: number;
  /** How long DEL waits for felix; then it goes on. */
  readonly removalTimeoutMs?: number;
}

/** What the verbs work with. */
export interface CniContext {
  readonly store: Store;
  readonly ipam: AddressPool;
  /** The node's own namespace. */
  readonly netlink: Netlink;
  readonly openPod: OpenPod;
  readonly nodename: string;
  readonly felix: Felix;
  /** Where Kubernetes can be asked of pods; without it, labels are the runtime's and there are no annotations. */
  readonly podFacts?: NonNullable<Store['podFacts']>;
  readonly config: CniSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** The same with what the handler adds. */
export interface Working extends CniContext {
  readonly gate: DatastoreGate;
}

/** Where everything of one container is found. */
export interface Place {
  readonly pod: Pod;
  readonly containerId: string;
  readonly key: Key<'WorkloadEndpoint'>;
  readonly hostDevice: string;
  readonly handle: string;
}

/**
 * @param network name of the network configuration, part of the handle. @param endpoint name of the WorkloadEndpoint
 */
export function placeOf(context: CniContext, pod: Pod, containerId: string, network: string, endpoint: string): Place {
  return {
    pod,
    containerId,
    key: {
      type: 'WorkloadEndpoint',
      namespace: pod.namespace,
      name: endpointName(context.nodename, pod.name, endpoint),
    },
    hostDevice: hostDeviceName(context.config.interfacePrefix, pod.namespace, pod.name),
    handle: handleId(network, containerId),
  };
}
