import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode } from '../base/errors.ts';
import { stateRoot } from './plan.ts';
import { startOf } from './processes.ts';

/** In the directory of a lab that is to end with the process that makes it. */
const passingFile = 'once';

/** Notes that a lab ends with this process, so that what is left of it after that is known for waste. */
export function markPassing(stateDir: string): void {
  writeFileSync(join(stateDir, passingFile), `${process.pid} ${startOf(process.pid)}\n`);
}

/** Labs of `--once` whose processes were killed before they could take them down. */
export function abandonedLabs(root = stateRoot): string[] {
  return standingLabs(root).filter((name) => {
    const [pid, start] =
      readIfThere(join(root, name, passingFile))
        ?.trim()
        .split(' ') ?? [];
    return pid !== undefined && startOf(Number(pid)) !== start;
  });
}

/** Every lab that has files, however whole it is. */
export function standingLabs(root = stateRoot): string[] {
  try {
    return readdirSync(root).sort();
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return [];
    throw thrown;
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR'].includes(errorCode(thrown) ?? '')) return undefined;
    throw thrown;
  }
}
