import { join } from 'node:path';
import { addNetwork, type CniCall, type Conflist, delNetwork } from '../cni/client.ts';
import { defaultConflist, installCni } from '../cni/install.ts';
import type { Family } from '../model/address.ts';
import { programs } from './cluster.ts';
import { type LabNode, type LabPlan, type LabPod, netnsPath } from './plan.ts';

/** Puts the CNI plugin of a node where its runtime would look. */
export async function installPlugin(plan: LabPlan, node: LabNode): Promise<void> {
  await installCni({
    launcher: join(programs, 'margay-cni'),
    binDir: node.pluginDir,
    confDir: join(node.runDir, 'cni-conf'),
    socketPath: join(node.runDir, 'cni.sock'),
    queueDir: join(node.runDir, 'cni-queue'),
    conflist: conflistFor(plan),
  });
}

/** The network of the lab's pods: ours, with an address of every family. */
export function conflistFor({ families }: Pick<LabPlan, 'families'>): Conflist {
  const conflist = defaultConflist({ cniVersion: '1.1.0' });
  const assign = { assign_ipv4: String(families.includes(4)), assign_ipv6: String(families.includes(6)) };
  const plugins = conflist.plugins.map((plugin) => ({ ...plugin, ipam: { type: 'margay-ipam', ...assign } }));
  return { ...conflist, plugins };
}

/** What a runtime says of one pod to the plugin. */
export function callFor(plan: LabPlan, node: LabNode, pod: LabPod, signal: AbortSignal): CniCall {
  return {
    conflist: conflistFor(plan),
    pluginDir: node.pluginDir,
    containerId: pod.containerId,
    netns: netnsPath(pod.netns),
    ifName: 'eth0',
    args: {
      IgnoreUnknown: '1',
      K8S_POD_NAMESPACE: pod.namespace,
      K8S_POD_NAME: pod.pod,
      K8S_POD_INFRA_CONTAINER_ID: pod.containerId,
    },
    labels: pod.labels,
    signal,
  };
}

/** CNI ADD of a pod whose namespace stands; gives its addresses. @throws CniPluginError */
export async function addPod(
  plan: LabPlan,
  node: LabNode,
  pod: LabPod,
  signal: AbortSignal,
): Promise<{ readonly [F in Family]?: string }> {
  const result = await addNetwork(callFor(plan, node, pod, signal));
  const addresses: { [F in Family]?: string } = {};
  for (const { address } of result.ips ?? [])
    addresses[address.includes(':') ? 6 : 4] = address.slice(0, address.indexOf('/'));
  return addresses;
}

/** CNI DEL of a pod. */
export async function deletePod(plan: LabPlan, node: LabNode, pod: LabPod, signal: AbortSignal): Promise<void> {
  await delNetwork(callFor(plan, node, pod, signal));
}
