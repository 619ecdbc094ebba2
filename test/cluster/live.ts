import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ControlPlane } from './control-plane.ts';
import { Fabric, Machine } from './machine.ts';
import { Node } from './node.ts';

/* A cluster of Kubernetes' own programs on one machine: a control plane, and nodes with containerd and the kubelet. */

const script = join(import.meta.dirname, '../../scripts/image.sh');

/** The image that the manifests name, as containerd writes such a name. */
export const shippedImage = 'docker.io/library/margay:0.1.0';

/** Where pods' addresses come from. */
export const podCidr = '10.244.0.0/16';

export class LiveCluster {
  readonly #stops: (() => unknown)[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'margay-nodes-'));
  readonly nodes: Node[] = [];
  #plane: ControlPlane | undefined;

  /** Starts it with nodes `n1`, `n2`, … that have our image, and wait for a network. */
  static async start(count: number): Promise<LiveCluster> {
    const cluster = new LiveCluster();
    try {
      await cluster.#start(count);
    } catch (thrown) {
      await cluster.stop();
      throw thrown;
    }
    return cluster;
  }

  async #start(count: number): Promise<void> {
    this.#stops.push(() => rmSync(this.#folder, { recursive: true, force: true }));
    const image = join(this.#folder, 'image.tar');
    await promisify(execFile)('sh', [script, '--name', shippedImage, '--output', image]);
    const fabric = new Fabric('198.18.9');
    this.#stops.push(() => fabric.remove());
    const netns = `/run/netns/${fabric.netns}`;
    const plane = await ControlPlane.start({ netns, address: fabric.address(1), scheduler: true, podCidr });
    this.#stops.push(() => plane.stop());
    this.#plane = plane;
    for (let i = 1; i <= count; i++) {
      const machine = new Machine(fabric, this.#folder, `n${i}`, 10 + i);
      this.#stops.push(() => machine.remove());
      await machine.start();
      const node = await Node.start(machine, plane, { clusterCidr: podCidr, images: [image] });
      this.#stops.push(() => node.stop());
      this.nodes.push(node);
    }
  }

  get plane(): ControlPlane {
    if (this.#plane === undefined) throw new Error('there is no control plane');
    return this.#plane;
  }

  /** `kubectl` to its end; its output. @throws Error with what it said, when it fails */
  kubectl(...args: readonly string[]): Promise<string> {
    return this.plane.run(args);
  }

  /** A command in a Pod by way of the API server and the kubelet; its code and whole output. */
  async exec(pod: string, ...command: readonly string[]): Promise<{ code: number | null; output: string }> {
    const { code, stdout, stderr } = await this.plane.kubectl(['exec', pod, '--', ...command]);
    return { code, output: stdout + stderr };
  }

  /** Objects of a kind, by `kubectl get`. */
  async list<T>(...args: readonly string[]): Promise<readonly T[]> {
    return (await this.plane.get<{ items: readonly T[] }>(...args))?.items ?? [];
  }

  /** Ends everything, the youngest first. @throws AggregateError with all that failed */
  async stop(): Promise<void> {
    const failures: unknown[] = [];
    for (const stop of this.#stops.splice(0).toReversed())
      await Promise.resolve()
        .then(stop)
        .catch((thrown: unknown) => failures.push(thrown));
    if (failures.length > 0) throw new AggregateError(failures, 'the cluster did not end cleanly');
  }
}
