import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CniCall, Conflist } from '../../src/cni/client.ts';
import { finish } from '../e2e/support.ts';
import { ownName } from '../support/leftovers.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Seat } from './seat.ts';

export interface Annotated {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
}

/** Pods of the API bound to the node `n1`, with the namespaces that its runtime would make for them. */
export class Pods {
  readonly #namespaces: string[] = [];

  constructor(
    private readonly cluster: ControlPlane,
    private readonly seat: Seat,
    private readonly namespace: string,
  ) {}

  /** The runtime's call of the installed plugin for a new Pod. */
  async add(name: string, labels: Readonly<Record<string, string>> = {}): Promise<CniCall> {
    const { namespace } = this;
    await this.cluster.apply({
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels } },
      spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'none' }] },
    });
    const netns = ownName('mgp');
    execFileSync('ip', ['netns', 'add', netns]);
    this.#namespaces.push(netns);
    const folder = join(this.seat.folder, 'conf');
    const [file = ''] = readdirSync(folder).filter((each) => each.endsWith('.conflist'));
    return {
      conflist: JSON.parse(readFileSync(join(folder, file), 'utf8')) as Conflist,
      pluginDir: join(this.seat.folder, 'bin'),
      containerId: `${name}-1`,
      netns: `/run/netns/${netns}`,
      ifName: 'eth0',
      args: { K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: name, K8S_POD_INFRA_CONTAINER_ID: `${name}-1` },
    };
  }

  /** What the Pod says of its address. */
  async address(name: string): Promise<string | undefined> {
    const found = await this.cluster.get<Annotated>('-n', this.namespace, 'pod', name);
    return found?.metadata.annotations?.['cni.projectcalico.org/podIP'];
  }

  async remove(): Promise<void> {
    for (const name of this.#namespaces.splice(0)) await finish('ip', ['netns', 'del', name]);
  }
}

/** Whether a Pod gets an answer from an address. */
export async function pings(from: CniCall, address: string): Promise<boolean> {
  const { code } = await finish('nsenter', [`--net=${from.netns}`, '--', 'ping', '-n', '-c', '1', '-W', '1', address]);
  return code === 0;
}
