import { keyText } from '../../../src/datastore/store.ts';
import { until } from '../../support/wait.ts';
import { type Harness, podKey } from './support.ts';

/** Milliseconds that anything may take. */
export const within = 5_000;

export const endpoint = (name: string) => keyText(podKey(name));

/** What tests of felix look at in the harness that is in use. */
export function looksAt(harness: () => Harness) {
  const routes = () =>
    harness()
      .netlink.routes()
      .filter(({ protocol }) => protocol === 80);
  return {
    routes,
    destinations: () =>
      routes()
        .map(({ destination }) => destination)
        .sort(),
    programmed: (name: string, revision?: string) =>
      harness().felix.whenProgrammed(endpoint(name), revision, within, harness().signal),
    firstPass: () => until(() => harness().felix.status().lastApply, { within, what: 'first pass' }),
  };
}
