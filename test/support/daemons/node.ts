import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { FeedMessage } from '../../../src/model/feed.ts';
import { until } from '../wait.ts';
import { bundled } from './bundle.ts';
import { addresses, type Host, type Link } from './network.ts';
import { getJson } from './speaker.ts';

const blocks = {
  us: ['10.65.1.0/26', 'fd65::/122'],
  them: ['10.65.2.0/26', 'fd65::40/122'],
} as const;

/** What each node announces. */
export { blocks };

/** Key and text of an object in etcd's layout; `name` with its namespace before a slash where the kind has one. */
export function stored(kind: string, plural: string, path: string, spec: object): readonly [key: string, text: string] {
  const [name = '', namespace] = path.split('/').reverse();
  const metadata = { name, ...(namespace ? { namespace } : {}) };
  const value = { kind, apiVersion: 'projectcalico.org/v3', metadata, spec };
  return [`/calico/resources/v3/projectcalico.org/${plural}/${path}`, JSON.stringify(value)];
}

/** Both hosts as nodes of a full mesh, each with a block of either family. */
function datastore(): Record<string, string> {
  const texts: Record<string, string> = {};
  const resource = (...given: Parameters<typeof stored>) => {
    const [key, text] = stored(...given);
    texts[key] = text;
  };
  resource('IPPool', 'ippools', 'four', { cidr: '10.65.0.0/16' });
  resource('IPPool', 'ippools', 'six', { cidr: 'fd65::/64' });
  for (const host of ['us', 'them'] as const) {
    const { four, six } = addresses[host];
    resource('Node', 'nodes', host, { bgp: { ipv4Address: `${four}/24`, ipv6Address: `${six}/64` } });
    for (const cidr of blocks[host]) {
      const family = cidr.includes(':') ? 'ipv6' : 'ipv4';
      texts[`/calico/ipam/v2/assignment/${family}/block/${cidr.replace('/', '-')}`] = JSON.stringify({
        cidr,
        affinity: `host:${host}`,
        allocations: Array(64).fill(null),
        unallocated: Array.from({ length: 64 }, (_, i) => i),
        attributes: [],
        sequenceNumber: 1,
        sequenceNumberForAllocation: {},
        deleted: false,
      });
    }
  }
  return texts;
}

/** `margay bgp` as a process in a host, and a reader of its route feed that behaves as felix does. */
export class NodeProcess {
  readonly #directory: string;
  readonly #program: string;
  readonly #datastore = datastore();
  #child: ChildProcess | undefined;

  constructor(
    private readonly link: Link,
    private readonly host: Host,
  ) {
    this.#directory = join(link.directory, host);
    this.#program = bundled('node-main.ts');
    mkdirSync(this.#directory);
    this.#write();
  }

  /** Changes the node's datastore; undefined takes an object away. */
  change(objects: readonly (readonly [key: string, text: string | undefined])[]): void {
    for (const [key, text] of objects) {
      if (text === undefined) delete this.#datastore[key];
      else this.#datastore[key] = text;
    }
    this.#write();
    this.#child?.kill('SIGHUP');
  }

  #write(): void {
    writeFileSync(join(this.#directory, 'datastore.json'), JSON.stringify(this.#datastore));
  }

  start(): void {
    const file = join(this.#directory, 'datastore.json');
    const args = [this.#program, file, this.host, this.#directory];
    this.#child = this.link.spawn(this.host, `node-${this.host}`, process.execPath, args);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child) await this.link.kill(this.#child, signal);
  }

  get output(): string {
    return this.link.output(`node-${this.host}`);
  }

  status(path: string): Promise<unknown> {
    return getJson(join(this.#directory, 'bgp.sock'), path);
  }

  reader(): FeedReader {
    return new FeedReader(join(this.#directory, 'routes.sock'));
  }
}

/** Keeps the feed's table over reconnections: stale routes go at the end of a snapshot. Counts what was lost. */
export class FeedReader {
  readonly routes = new Map<string, Extract<FeedMessage, { type: 'route' }>>();
  /** Prefixes that disappeared at any time, in order. */
  readonly lost: string[] = [];
  snapshots = 0;
  #socket: Socket | undefined;
  #fresh = new Set<string>();
  #closed = false;

  constructor(private readonly path: string) {
    this.#connect();
  }

  async has(...prefixes: readonly string[]): Promise<void> {
    await until(() => prefixes.every((prefix) => this.routes.has(prefix)), {
      within: 40_000,
      what: `routes to ${prefixes.join(', ')} in the feed, which has ${[...this.routes.keys()].join(', ')}`,
    });
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
  }

  #connect(): void {
    if (this.#closed) return;
    const socket = connect(this.path);
    this.#socket = socket;
    this.#fresh = new Set();
    let snapshot = true;
    socket.on('error', () => undefined);
    socket.on('close', () => setTimeout(() => this.#connect(), 50));
    createInterface({ input: socket })
      .on('error', () => undefined)
      .on('line', (line) => {
        const message: FeedMessage = JSON.parse(line);
        if (message.type === 'route') {
          this.routes.set(message.prefix, message);
          this.#fresh.add(message.prefix);
        }
        if (message.type === 'withdraw') this.#lose(message.prefix);
        if (message.type === 'endOfSnapshot' && snapshot) {
          snapshot = false;
          this.snapshots++;
          for (const prefix of [...this.routes.keys()]) if (!this.#fresh.has(prefix)) this.#lose(prefix);
        }
      });
  }

  #lose(prefix: string): void {
    if (this.routes.delete(prefix)) this.lost.push(prefix);
  }
}
