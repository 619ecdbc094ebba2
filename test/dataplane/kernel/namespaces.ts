import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../../src/base/log.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import type { Netlink } from '../../../src/kernel/types.ts';
import { ownName } from '../../support/leftovers.ts';

/** A network namespace made for one test, with `lo` up. */
export class TestNamespace implements Disposable {
  readonly name = ownName('mg');
  readonly path = `/run/netns/${this.name}`;
  readonly launcher = ['nsenter', `--net=${this.path}`];
  readonly #netlinks: Netlink[] = [];
  readonly #directories: string[] = [];

  constructor() {
    run('ip', 'netns', 'add', this.name);
    this.run('ip', 'link', 'set', 'lo', 'up');
  }

  /** rtnetlink of this namespace, closed with it. */
  open(): Netlink {
    const netlink = openNetlinkIn(this.path, { aside: true });
    this.#netlinks.push(netlink);
    return netlink;
  }

  /** Output of a program run inside. */
  run(...command: string[]): string {
    return run(...this.launcher, ...command);
  }

  /** A launcher that also counts: `spawned()` says how many programs it has started. */
  counting(): { launcher: string[]; spawned: () => number } {
    const directory = mkdtempSync(join(tmpdir(), 'margay-count-'));
    this.#directories.push(directory);
    const file = join(directory, 'count');
    writeFileSync(file, '');
    const launcher = ['sh', '-c', `echo >> ${file}; exec "$@"`, '--', ...this.launcher];
    return { launcher, spawned: () => readFileSync(file).length };
  }

  /** Identifiers of the processes that live inside. */
  processes(): number[] {
    return run('ip', 'netns', 'pids', this.name).split('\n').filter(Boolean).map(Number);
  }

  [Symbol.dispose](): void {
    for (const netlink of this.#netlinks) netlink.close();
    for (const directory of this.#directories) rmSync(directory, { recursive: true });
    run('ip', 'netns', 'del', this.name);
  }
}

export function run(...command: string[]): string {
  const [program = '', ...args] = command;
  return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
}

export const silent = createLog('test', 'silent');
