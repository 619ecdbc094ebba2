import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Collects what the benchmark itself has left, so that whoever is measured next does not have to. */
export function collectGarbage(type: 'minor' | 'major'): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')({ type });
}
