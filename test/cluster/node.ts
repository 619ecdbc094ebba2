import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Runtime } from '../containerd/runtime.ts';
import { hierarchies } from '../support/cgroups.ts';
import { type ControlPlane, programFolder } from './control-plane.ts';
import type { Machine } from './machine.ts';
import type { Program } from './program.ts';

/* A node of a cluster: containerd, kubelet and kube-proxy on a machine of its own. */

/** Range of the pods' addresses, for kube-proxy; IPAM's is the pool. */
export interface NodeOptions {
  readonly clusterCidr: string;
  /** Archives of images that it has before anything is scheduled. */
  readonly images: readonly string[];
}

const registeredMs = 60_000;

export class Node {
  readonly machine: Machine;
  readonly runtime: Runtime;
  readonly kubelet: Program;
  readonly proxy: Program;

  private constructor(machine: Machine, runtime: Runtime, kubelet: Program, proxy: Program) {
    this.machine = machine;
    this.runtime = runtime;
    this.kubelet = kubelet;
    this.proxy = proxy;
  }

  /** Starts all three; the node is there, but not ready before a plugin is. */
  static async start(machine: Machine, cluster: ControlPlane, options: NodeOptions): Promise<Node> {
    machine.run('mkdir', '-p', '/etc/cni/net.d', '/opt/cni/bin');
    const loopback = ['/usr/lib/cni', '/opt/cni/bin'].find((folder) => existsSync(join(folder, 'loopback'))) ?? '';
    machine.run('cp', join(loopback, 'loopback'), '/opt/cni/bin/loopback');
    const { entrance, name, netns } = machine;
    const place = { netns, entrance, name, binDir: '/opt/cni/bin', confDir: '/etc/cni/net.d', withoutNetwork: true };
    const runtime = await Runtime.start(place);
    try {
      for (const archive of options.images) runtime.load(archive);
      const kubelet = machine.program(
        'kubelet',
        programFile('kubelet'),
        await kubeletOptions(machine, runtime, cluster),
      );
      const proxy = machine.program(
        'kube-proxy',
        programFile('kube-proxy'),
        await proxyOptions(machine, cluster, options.clusterCidr),
      );
      makeCgroup(runtime.cgroup);
      const { name } = machine;
      await kubelet.ready(async () => (await cluster.get('node', name)) !== undefined, registeredMs);
      proxy.start();
      return new Node(machine, runtime, kubelet, proxy);
    } catch (thrown) {
      await runtime.stop();
      throw thrown;
    }
  }

  /** Ends it with all its pods. */
  async stop(): Promise<void> {
    await this.kubelet.stop();
    await this.proxy.stop();
    await this.runtime.stop();
  }
}

/**
 * The cgroup that a kubelet makes those of its pods in. Both leave this one to others; of a new cpuset, version 1 takes
 * no process before it has processors and memory.
 */
function makeCgroup(name: string): void {
  for (const parent of hierarchies()) {
    mkdirSync(join(parent, name), { recursive: true });
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (parent.endsWith('/cpuset')) writeFileSync(join(parent, name, file), readFileSync(join(parent, file)));
  }
}

const programFile = (name: string) => join(programFolder(), name);

async function kubeletOptions(machine: Machine, runtime: Runtime, cluster: ControlPlane): Promise<readonly string[]> {
  const { name, address } = machine;
  const access = await cluster.userKubeconfig(`system:node:${name}`, 'system:nodes');
  const configuration = {
    ...{ apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration' },
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: cluster.caFile },
    },
    authorization: { mode: 'Webhook' },
    ...{ cgroupDriver: 'cgroupfs', cgroupRoot: runtime.cgroup, failSwapOn: false },
    ...{ clusterDomain: 'cluster.local', clusterDNS: ['10.96.0.10'] },
    // The machine's memory and disk are not this cluster's alone.
    evictionHard: { 'memory.available': '1Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    ...{ imageGCHighThresholdPercent: 100, imageGCLowThresholdPercent: 99 },
    ...{ nodeStatusUpdateFrequency: '2s', syncFrequency: '5s', readOnlyPort: 0 },
  };
  const file = machine.write('kubelet.yaml', JSON.stringify(configuration));
  const endpoint = `unix://${runtime.socket}`;
  return [
    ...[`--config=${file}`, `--kubeconfig=${access}`, `--hostname-override=${name}`, `--node-ip=${address}`],
    ...['--container-runtime=remote', `--container-runtime-endpoint=${endpoint}`, '--v=2'],
  ];
}

async function proxyOptions(machine: Machine, cluster: ControlPlane, clusterCidr: string): Promise<readonly string[]> {
  const access = await cluster.userKubeconfig('system:kube-proxy');
  const configuration = {
    ...{ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration' },
    ...{
      clientConnection: { kubeconfig: access },
      hostnameOverride: machine.name,
      mode: 'iptables',
      clusterCIDR: clusterCidr,
    },
    // These belong to the whole machine.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  };
  const file = machine.write('proxy.yaml', JSON.stringify(configuration));
  return [`--config=${file}`, '--v=2'];
}
