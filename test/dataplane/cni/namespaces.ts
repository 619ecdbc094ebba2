import { execFileSync } from 'node:child_process';
import { ownName } from '../../support/leftovers.ts';

/** Network namespaces of one test: unique names, all gone after `clear`. */
export class Namespaces {
  readonly #names: string[] = [];

  /** Makes one; its path. */
  add(): string {
    const name = ownName('mcni');
    execFileSync('ip', ['netns', 'add', name]);
    this.#names.push(name);
    return `/run/netns/${name}`;
  }

  /** Runs a program inside; its standard output. */
  exec(netns: string, ...command: string[]): string {
    return execFileSync('nsenter', [`--net=${netns}`, ...command], { encoding: 'utf8' });
  }

  remove(netns: string): void {
    const name = netns.slice('/run/netns/'.length);
    execFileSync('ip', ['netns', 'del', name]);
    this.#names.splice(this.#names.indexOf(name), 1);
  }

  clear(): void {
    for (const name of [...this.#names]) this.remove(`/run/netns/${name}`);
  }
}
