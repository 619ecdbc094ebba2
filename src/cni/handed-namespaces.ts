import { closeSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { EnvironmentError, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { DescriptorSocket } from '../kernel/descriptor-socket.ts';
import { holdNamespace, isNetworkNamespace, releaseNamespace } from '../kernel/namespace-file.ts';

/*
 * Pods' network namespaces from the launcher, which opens them on the host: for an agent in a container that has no mount
 * of the host's namespaces, as in Calico's manifests. A namespace is held while a request is about it, and no longer:
 * a descriptor keeps a namespace alive after its pod.
 */

/** A launcher that ended before its request came leaves its namespace behind for so long. */
const unclaimedMs = 60_000;

interface Held {
  readonly fd: number;
  readonly since: number;
  requests: number;
}

export class HandedNamespaces {
  readonly #socket: DescriptorSocket;
  readonly #held = new Map<string, Held>();
  #cancel: (() => void) | undefined;

  /**
   * @param agentSocket path of the CNI server's, beside which the launcher looks for this one
   * @throws EnvironmentError when it cannot be made there
   */
  constructor(
    agentSocket: string,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    const path = `${agentSocket}.netns`;
    try {
      this.#socket = new DescriptorSocket(path);
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw new EnvironmentError(`cannot listen on ${path}`, 'set MARGAY_RUN_DIR to a folder that can be written', {
        cause,
      });
    }
  }

  /** Runs what is asked about the namespace at `netns`, with that path leading to it. */
  async during<T>(netns: string | undefined, action: () => Promise<T>): Promise<T> {
    this.#takeUp();
    const held = netns === undefined ? undefined : this.#held.get(netns);
    if (netns === undefined || held === undefined) return action();
    held.requests++;
    try {
      return await action();
    } finally {
      held.requests--;
      if (held.requests === 0) this.#drop(netns, held);
    }
  }

  close(): void {
    this.#cancel?.();
    for (const [path, held] of this.#held) this.#drop(path, held);
    this.#socket.close();
  }

  /** All that were handed over since the last look: a launcher's comes before its request does. */
  #takeUp(): void {
    for (let next = this.#socket.receive(); next !== undefined; next = this.#socket.receive()) {
      const { text: path, fd } = next;
      if (fd === undefined) continue;
      const known = this.#held.get(path);
      if (!isNetworkNamespace(fd) || (known !== undefined && known.requests > 0)) {
        closeSync(fd);
        continue;
      }
      if (known !== undefined) this.#drop(path, known);
      this.#held.set(path, { fd, since: this.clock.monotonic(), requests: 0 });
      holdNamespace(path, fd);
    }
    if (this.#held.size > 0) this.#cancel ??= this.clock.after(unclaimedMs, () => this.#sweep());
  }

  #sweep(): void {
    this.#cancel = undefined;
    const before = this.clock.monotonic() - unclaimedMs;
    for (const [path, held] of this.#held) {
      if (held.requests > 0 || held.since > before) continue;
      this.log.info({ netns: path }, 'a namespace was handed over, and no request came');
      this.#drop(path, held);
    }
    if (this.#held.size > 0) this.#cancel = this.clock.after(unclaimedMs, () => this.#sweep());
  }

  #drop(path: string, { fd }: Held): void {
    this.#held.delete(path);
    releaseNamespace(path);
    closeSync(fd);
  }
}
