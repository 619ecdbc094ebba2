import { createLog, type Log } from '../../src/base/log.ts';
import type { Again } from './interleavings.ts';
import type { Answer } from './places.ts';

/*
 * What IPAM still knows when one of its loops begins an attempt anew: what it knew when it began the loop, for it begins
 * each attempt by reading. That it does begin anew its log says.
 */

type Kept = (answers: readonly Answer[]) => readonly Answer[];

/** All before the last call of this kind, with which each attempt begins. */
const before =
  (call: string): Kept =>
  (answers) => {
    const at = answers.findLastIndex((answer) => answer.call.startsWith(call));
    if (at < 0) throw new Error(`no attempt began with ${call}: what a loop of IPAM begins with is not as told here`);
    return answers.slice(0, at);
  };

/**
 * A transaction for addresses that met a change read the block again. Besides it an allocator remembers other blocks of
 * its node, and its handle, if it read it: then nothing is taken to be forgotten.
 */
const onlyTheBlock: Kept = (answers) => {
  const last = answers.at(-1);
  const versions = answers.flatMap((answer) => answer.versions.map((version) => version.replace(/@\d+$/, '')));
  const blocks = new Set(versions.filter((key) => key.startsWith('Block/')));
  const handle = answers.some(({ call }) => call.startsWith('get Handle/'));
  if (!last?.call.startsWith('get Block/') || blocks.size > 1 || handle) return answers;
  return [...answers.filter(({ call }) => call === round), last];
};

const round = 'address transaction met another change';

const loops: Readonly<Record<string, Kept>> = {
  'block claim met another change': before('create BlockAffinity/'),
  'block release met another change': before('get BlockAffinity/'),
  [round]: onlyTheBlock,
};

const silent = createLog('test', 'silent');

/** A log that shows nothing, and tells when a loop of IPAM begins an attempt anew. */
export function attemptLog(again: Again | undefined): Log {
  if (again === undefined) return silent;
  const debug = (_fields: object, message: string) => {
    const kept = Object.hasOwn(loops, message) ? loops[message] : undefined;
    if (kept) again(message, kept);
  };
  return Object.assign(Object.create(silent) as Log, { debug });
}
