import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';
import { errorCode, explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { parseBody } from './framing.ts';
import type { RawRequest } from './request.ts';

/*
 * DELs that wait on the disk: the launcher leaves one here when no agent answers, the agent when the datastore does not.
 * Each is a file of its own, `del-<nanoseconds since 1970>-<writer>.json`, with the JSON of the launcher's request; it
 * appears whole, by a rename.
 */

/** One DEL that was promised to the runtime. */
export interface Removal {
  /** Name of its file; names sort by age. */
  readonly file: string;
  readonly containerId: string;
  readonly request: RawRequest;
}

/** The launcher's limits are the same. */
const maxEntries = 4096;
const maxOctets = 64 << 10;
/** Refused files that are kept for whoever looks into it. */
const maxRefused = 100;
/** A file under its first name is written within this, or its writer died. */
const staleMs = 60_000;

export class RemovalQueue {
  /** What was read once does not change. */
  readonly #known = new Map<string, Removal>();

  /** @param folder made when it is needed, for root alone */
  constructor(
    readonly folder: string,
    private readonly log: Log,
    private readonly limit = maxEntries,
  ) {}

  /**
   * All that wait, oldest first. Files that hold no DEL are reported and set aside. @throws Error of the file system
   */
  async list(): Promise<Removal[]> {
    const names = this.#names();
    const present = new Set(names);
    for (const known of this.#known.keys()) if (!present.has(known)) this.#known.delete(known);
    const removals: Removal[] = [];
    for (const file of names) {
      const removal = this.#known.get(file) ?? (await this.#read(file));
      if (removal === undefined) continue;
      this.#known.set(file, removal);
      removals.push(removal);
    }
    return removals;
  }

  /** Whether nothing waits: one look at the folder. @throws Error of the file system */
  get empty(): boolean {
    return this.#names().length === 0;
  }

  /** Whether it still waits. */
  has({ file }: Removal): boolean {
    return this.#stat(file) !== undefined;
  }

  /** Keeps a DEL. @throws InputError when it is too long or the queue full; Error of the file system */
  async add({ env, stdin }: RawRequest): Promise<void> {
    const text = JSON.stringify({ env, stdin });
    const octets = Buffer.byteLength(text);
    if (octets > maxOctets) throw new InputError('request', `${octets} octets`, `at most ${maxOctets} to be queued`);
    await this.prepare();
    const waiting = this.#names().length;
    if (waiting >= this.limit) throw new InputError(this.folder, waiting, `fewer than ${this.limit} files`);
    await this.#write(`del-${Date.now()}000000-${randomBytes(4).toString('hex')}.json`, text);
  }

  /** It is done. */
  async remove({ file }: Removal): Promise<void> {
    this.#known.delete(file);
    await rm(path.join(this.folder, file), { force: true });
  }

  /** Sets a file aside that nothing can come of. */
  async refuse(file: string, reason: string): Promise<void> {
    this.#known.delete(file);
    const aside = `refused-${file}`;
    await rename(path.join(this.folder, file), path.join(this.folder, aside));
    this.log.error({ file: path.join(this.folder, aside), reason }, 'a queued CNI DEL cannot be done and is set aside');
    const refused = this.#entries()
      .filter((name) => name.startsWith('refused-'))
      .sort();
    for (const name of refused.slice(0, -maxRefused)) await rm(path.join(this.folder, name), { force: true });
  }

  /** Makes the folder and removes what writers that died left behind. @throws Error of the file system */
  async prepare(): Promise<void> {
    await mkdir(path.dirname(this.folder), { recursive: true, mode: 0o755 });
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    for (const name of this.#entries().filter((each) => each.startsWith('.new-'))) {
      const age = Date.now() - (this.#stat(name)?.mtimeMs ?? Date.now());
      if (age > staleMs) await rm(path.join(this.folder, name), { force: true });
    }
  }

  async #write(name: string, text: string): Promise<void> {
    const beside = path.join(this.folder, `.new-${name}`);
    const file = await open(beside, 'wx', 0o600);
    try {
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, path.join(this.folder, name));
    } catch (thrown) {
      await unlink(beside);
      throw thrown;
    }
    const folder = await open(this.folder);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async #read(file: string): Promise<Removal | undefined> {
    try {
      const found = this.#stat(file);
      if (found === undefined) return undefined;
      if (!found.isFile()) throw new InputError(file, 'something else', 'a regular file');
      if (found.size > maxOctets) throw new InputError(file, `${found.size} octets`, `at most ${maxOctets}`);
      const request = parseBody(readFileSync(path.join(this.folder, file)));
      const { CNI_COMMAND: verb, CNI_CONTAINERID: containerId } = request.env;
      if (verb !== 'DEL') throw new InputError('CNI_COMMAND', verb, 'DEL');
      if (!containerId) throw new InputError('CNI_CONTAINERID', containerId, 'a value');
      return { file, containerId, request: { ...request, queuedAt: queuedAt(file) } };
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      await this.refuse(file, explain(thrown));
      return undefined;
    }
  }

  #names(): string[] {
    return this.#entries()
      .filter((name) => /^del-[\w.-]+\.json$/.test(name))
      .sort();
  }

  #entries(): string[] {
    try {
      return readdirSync(this.folder);
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT') return [];
      throw thrown;
    }
  }

  #stat(name: string) {
    return lstatSync(path.join(this.folder, name), { throwIfNoEntry: false });
  }
}

/** The time in a file's name; undefined where none is. */
function queuedAt(file: string): string {
  const [, nanoseconds = '0'] = /^del-(\d{1,19})-/.exec(file) ?? [];
  return new Date(Number(BigInt(nanoseconds) / 1_000_000n)).toISOString();
}
