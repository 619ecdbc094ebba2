import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Store, StoreUnavailableError, type Write } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import {
  bits,
  type Cidr,
  cidrParts,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  ipFromNumber,
  ipNumber,
  parseCidr,
  parseIp,
} from '../model/address.ts';
import type { Assignment, AssignRequest } from './allocator.ts';
import { NoPoolError, PoolExhaustedError, WriteConflictError } from './errors.ts';
import { Lock } from './lock.ts';

/*
 * Addresses of the ranges that Kubernetes gives a node (podCIDRs), held by files on the node as the reference plugin
 * host-local holds them: `<directory>/<network>/<address>` with the container's ID and its device, one on a line. Files
 * of other networks in the same directory count as taken too, so that pods of a network that was here before keep
 * their addresses until they end.
 */

export interface PodCidrOptions {
  readonly store: Store;
  readonly node: string;
  /** `/var/lib/cni/networks` */
  readonly directory: string;
  readonly log: Log;
}

const device = 'eth0';

export class PodCidrPool {
  readonly #lock = new Lock();
  #cidrs: readonly Cidr[] | undefined;

  constructor(private readonly options: PodCidrOptions) {}

  /** Takes a syncer's update (type Node), which spares reading the node from the store. */
  consume(update: Update): void {
    if (update.op !== 'events') return;
    for (const event of update.events) {
      if (event.op === 'invalid') continue;
      const key = event.op === 'set' ? event.entry.key : event.key;
      if (key.type !== 'Node' || key.name !== this.options.node) continue;
      this.#cidrs = event.op === 'set' ? podCidrsOf(event.entry.value) : undefined;
    }
  }

  /**
   * One address of each family, and the request's own writes after it. What the handle holds already is given again.
   * @throws NoPoolError, PoolExhaustedError, WriteConflictError (nothing is held), StoreUnavailableError: whether it was
   *   written is unknown, and the addresses stay held
   */
  assign(request: AssignRequest, signal: AbortSignal): Promise<Assignment[]> {
    return this.#lock.hold(async () => {
      const place = this.#place(request.handle);
      await mkdir(place.directory, { recursive: true });
      const kept = await this.#held(place);
      const made: Ip[] = [];
      try {
        const assigned: Assignment[] = [];
        for (const family of [...new Set(request.families)]) {
          signal.throwIfAborted();
          const own = kept.find((address) => familyOf(address) === family);
          const cidr = await this.#cidr(family);
          const address = own ?? (await this.#take(place, cidr));
          if (own === undefined) made.push(address);
          assigned.push({ address, cidr: hostCidr(address), block: cidr, pool: 'podCIDR' });
        }
        await this.#write(request, assigned);
        return assigned;
      } catch (thrown) {
        // Where it is unknown whether the endpoint is written, it may have the addresses.
        if (!(thrown instanceof StoreUnavailableError))
          for (const address of made) await rm(join(place.directory, address), { force: true });
        throw thrown;
      }
    }, signal);
  }

  /** Frees what a handle holds; nothing held is success. */
  release({ handle }: { readonly handle: string }): Promise<Ip[]> {
    return this.#lock.hold(async () => {
      const place = this.#place(handle);
      const held = await this.#held(place);
      for (const address of held) await rm(join(place.directory, address), { force: true });
      return held;
    });
  }

  async byHandle(handle: string): Promise<Assignment[]> {
    const held = await this.#held(this.#place(handle));
    return held
      .sort((a, b) => familyOf(a) - familyOf(b))
      .map((address) => ({ address, cidr: hostCidr(address), block: hostCidr(address), pool: 'podCIDR' }));
  }

  /** Containers of a network that hold an address. */
  async containers(network: string): Promise<string[]> {
    const directory = join(this.options.directory, network);
    const ids = await Promise.all(
      (await addressesIn(directory)).map((address) => containerOf(join(directory, address))),
    );
    return [...new Set(ids.filter((id) => id !== ''))];
  }

  async #write({ extra, onWritten }: AssignRequest, assigned: readonly Assignment[]): Promise<void> {
    const writes: readonly Write[] = extra?.(assigned) ?? [];
    if (writes.length === 0) return;
    const outcome = await this.options.store.transact(writes);
    if (outcome.outcome === 'written') {
      onWritten?.(outcome.revisions);
      return;
    }
    const failed = writes[outcome.failed];
    if (failed) throw new WriteConflictError(failed);
  }

  /** The next address after the one given last, round the range. */
  async #take({ directory, container }: Place, cidr: Cidr): Promise<Ip> {
    const mark = join(directory, `last_reserved_ip.${familyOf(cidr) === 4 ? 0 : 1}`);
    const taken = await this.#taken();
    const file = join(directory, `.${container}.new`);
    await writeFile(file, `${container}\r\n${device}`);
    try {
      for (const address of addressesAfter(cidr, await lastOf(mark))) {
        if (taken.has(address) || !(await linked(file, join(directory, address)))) continue;
        await writeFile(mark, address);
        return address;
      }
    } finally {
      await rm(file, { force: true });
    }
    throw new PoolExhaustedError(familyOf(cidr), [`podCIDR ${cidr}`]);
  }

  async #taken(): Promise<Set<Ip>> {
    const { directory } = this.options;
    const networks = await readdir(directory);
    return new Set((await Promise.all(networks.map((each) => addressesIn(join(directory, each))))).flat());
  }

  async #held({ directory, container }: Place): Promise<Ip[]> {
    const addresses = await addressesIn(directory);
    const owners = await Promise.all(addresses.map((address) => containerOf(join(directory, address))));
    return addresses.filter((_, at) => owners[at] === container);
  }

  /** @throws NoPoolError when Kubernetes has given the node no range of the family */
  async #cidr(family: Family): Promise<Cidr> {
    const { store, node } = this.options;
    if (this.#cidrs === undefined || this.#cidrs.length === 0) {
      const found = await store.get({ type: 'Node', name: node });
      this.#cidrs = found === undefined ? undefined : podCidrsOf(found.value);
    }
    const cidr = this.#cidrs?.find((each) => familyOf(each) === family);
    if (cidr !== undefined) return cidr;
    throw new NoPoolError(family, [`node ${node} has no podCIDR of IPv${family} (kube-controller-manager gives them)`]);
  }

  /** An ID of a container has no dot; a network's name may. */
  #place(handle: string): Place {
    const dot = handle.lastIndexOf('.');
    const [network, container] = [handle.slice(0, dot), handle.slice(dot + 1)];
    if (dot < 1 || container === '' || /[/\0]/.test(handle) || network === '..')
      throw new InputError('handle', handle, '<network>.<container ID>');
    return { directory: join(this.options.directory, network), container };
  }
}

interface Place {
  readonly directory: string;
  readonly container: string;
}

/** The ranges of a node as Kubernetes gave them; what is none is left out. */
function podCidrsOf(value: unknown): Cidr[] {
  const { podCIDRs } = (value as { status?: { podCIDRs?: unknown } }).status ?? {};
  return Array.isArray(podCIDRs) ? podCIDRs.flatMap((each) => parsed(each, (text) => parseCidr(text))) : [];
}

/** Every address of a range once, beginning after `last`; without the network's, the first, and IPv4's broadcast. */
export function* addressesAfter(cidr: Cidr, last: Ip | undefined): Generator<Ip, void> {
  const { address, length, family } = cidrParts(cidr);
  const base = ipNumber(address as Ip);
  const size = 1n << BigInt(bits(family) - length);
  const [first, end] = [2n, family === 4 ? size - 1n : size];
  const count = end - first;
  if (count <= 0n) return;
  const offset = last === undefined ? -1n : ipNumber(last) - base - first;
  const begin = familyOf(last ?? address) === family && offset >= 0n && offset < count ? offset + 1n : 0n;
  for (let step = 0n; step < count; step++) yield ipFromNumber(base + first + ((begin + step) % count), family);
}

function parsed<T>(value: unknown, parse: (text: string) => T): T[] {
  try {
    return typeof value === 'string' ? [parse(value)] : [];
  } catch (thrown) {
    if (thrown instanceof InputError) return [];
    throw thrown;
  }
}

/** Files of a directory that are named by an address; none where there is no such directory. */
async function addressesIn(directory: string): Promise<Ip[]> {
  try {
    return (await readdir(directory)).flatMap((name) => (/^[0-9a-f.:]+$/.test(name) ? parsed(name, parseIp) : []));
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR'].includes(errorCode(thrown) ?? '')) return [];
    throw thrown;
  }
}

/** The first line of a file; empty for one that is gone. */
async function containerOf(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).split(/\r?\n/, 1)[0]?.trim() ?? '';
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return '';
    throw thrown;
  }
}

async function lastOf(file: string): Promise<Ip | undefined> {
  return parsed(await containerOf(file), parseIp)[0];
}

/** Gives a whole file its name, unless that is taken. */
async function linked(file: string, name: string): Promise<boolean> {
  try {
    await link(file, name);
    return true;
  } catch (thrown) {
    if (errorCode(thrown) === 'EEXIST') return false;
    throw thrown;
  }
}
