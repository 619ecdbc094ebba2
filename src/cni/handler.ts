import { explain } from '../base/errors.ts';
import type { Update } from '../datastore/update.ts';
import { add } from './add.ts';
import { withAddressesOf } from './bare-addresses.ts';
import { check } from './check.ts';
import { supportedVersions } from './config.ts';
import { type CniContext, placeOf, type Working } from './context.ts';
import { type CniCode, CniError, cniCodes, cniErrorOf, formatError } from './error.ts';
import { DatastoreGate } from './gate.ts';
import { withPodFacts } from './pod-facts.ts';
import { aborted, KeyedQueue } from './queue.ts';
import { collectGarbage, findPod, podDevice, removeContainer } from './remove.ts';
import { type CniRequest, type Pod, parseRequest, type RawRequest, versionOf } from './request.ts';

/** What the launcher prints and exits with. */
export interface Answer {
  readonly exitCode: number;
  readonly stdout: string;
  /** Of the error object. */
  readonly code?: CniCode;
}

export type { CniContext, CniSettings } from './context.ts';

/** Does the CNI verbs. Verbs of one pod run one after the other. */
export class CniHandler {
  readonly #queue = new KeyedQueue();

  private readonly context: Working;

  constructor(context: CniContext) {
    this.context = { ...context, gate: new DatastoreGate(context.store) };
  }

  /** Takes a syncer's updates (ClusterInformation among its types), which spares every verb a read. */
  consume(update: Update): void {
    this.context.gate.consume(update);
  }

  /** Never rejects: what goes wrong becomes a CNI error object and exit code 1. */
  async handle(raw: RawRequest, signal: AbortSignal): Promise<Answer> {
    const { clock, log } = this.context;
    const start = clock.monotonic();
    const { CNI_COMMAND: verb, CNI_CONTAINERID: container, CNI_ARGS: args } = raw.env;
    const facts = { verb, container, args, ...(raw.queuedAt !== undefined && { queuedAt: raw.queuedAt }) };
    try {
      const request = parseRequest(raw);
      const stdout = await this.#run(request, signal);
      const ms = elapsed(clock.monotonic() - start);
      // The runtime waits for the answer, and the log for nobody.
      setImmediate(() => log.info({ ...facts, ms }, 'CNI request done'));
      return { exitCode: 0, stdout };
    } catch (thrown) {
      const error = signal.aborted && !(thrown instanceof CniError) ? aborted() : cniErrorOf(thrown);
      const ms = elapsed(clock.monotonic() - start);
      log.warn(
        { ...facts, ms, code: error.code, cause: explain(thrown), details: error.details },
        'CNI request failed',
      );
      return { exitCode: 1, code: error.code, stdout: formatError(error, versionOf(raw.stdin)) };
    }
  }

  async #run(request: CniRequest, signal: AbortSignal): Promise<string> {
    switch (request.verb) {
      case 'VERSION':
        return `${JSON.stringify({ cniVersion: request.cniVersion, supportedVersions })}\n`;
      case 'ADD':
        requirePodDevice(request.ifName);
        requireSource(request.network.podCidr ?? false, this.context.config.podCidr ?? false);
        return this.#exclusively(request.pod, signal, async () => {
          const known = await withPodFacts(this.context, request);
          return add(withAddressesOf(this.context, known), known, signal);
        });
      case 'CHECK':
        requirePodDevice(request.ifName);
        await this.#exclusively(request.pod, signal, async () => {
          const known = request.network.bareAddresses ? await withPodFacts(this.context, request) : request;
          return check(withAddressesOf(this.context, known), known);
        });
        return '';
      case 'DEL':
        await this.#delete(request, signal);
        return '';
      case 'GC':
        await this.#collect(request.network, signal);
        return '';
      case 'STATUS':
        await this.#status();
        return '';
    }
  }

  async #delete(request: Extract<CniRequest, { verb: 'DEL' }>, signal: AbortSignal): Promise<void> {
    const { containerId, network, ifName } = request;
    // No ADD for another device ever succeeds, so there is nothing to remove.
    if (ifName !== podDevice) return;
    await this.context.gate.requireReadyNow();
    const pod = request.pod ?? (await findPod(this.context, containerId));
    if (pod === undefined) {
      await this.context.ipam.release({ handle: `${network.name}.${containerId}` });
      return;
    }
    const place = placeOf(this.context, pod, containerId, network.name, podDevice);
    await this.#exclusively(pod, signal, () => removeContainer(this.context, place, signal));
  }

  async #collect(network: Extract<CniRequest, { verb: 'GC' }>['network'], signal: AbortSignal): Promise<void> {
    const exclusively = (pod: Pod, task: () => Promise<void>) => this.#exclusively(pod, signal, task);
    const removed = await collectGarbage(this.context, network, exclusively, signal);
    if (removed.length > 0)
      this.context.log.info({ containers: removed }, 'CNI GC removed containers unknown to the runtime');
  }

  async #status(): Promise<void> {
    try {
      await this.context.gate.requireReachable();
    } catch (thrown) {
      const { message, details } = cniErrorOf(thrown);
      throw new CniError(cniCodes.unavailable, message, details, { cause: thrown });
    }
  }

  #exclusively<T>(pod: Pod, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    return this.#queue.run(`${pod.namespace}/${pod.name}`, signal, task);
  }
}

function requirePodDevice(ifName: string): void {
  if (ifName === podDevice) return;
  throw new CniError(
    cniCodes.environment,
    `CNI_IFNAME: "${ifName}": expected "${podDevice}": a pod has one device of this network`,
  );
}

/** The agent has one source of addresses, which the network configuration must mean. */
function requireSource(asked: boolean, has: boolean): void {
  if (asked === has) return;
  const found = asked ? 'host-local' : 'of pools';
  const expected = has
    ? 'host-local, as USE_POD_CIDR is true'
    : 'margay-ipam or calico-ipam, unless USE_POD_CIDR is true';
  throw new CniError(cniCodes.config, `ipam.type: ${found}: expected ${expected}`);
}

function elapsed(milliseconds: number): number {
  return Math.round(milliseconds * 10) / 10;
}
