import { InputError } from '../../base/errors.ts';

/*
 * The revision of lists: what was listed so far, resource by resource, as text. `pods=812,nodes=811`; a resource that
 * the cluster does not have is `-`.
 */

export type Revisions = ReadonlyMap<string, string>;

/** Stands in place of a resourceVersion for a resource that is not installed. */
export const notInstalled = '-';

/** As `parseRevisions` reads it, in the map's order. */
export function formatRevisions(revisions: Revisions): string {
  return [...revisions].map(([resource, version]) => `${resource}=${version}`).join(',');
}

/** @throws InputError for a text that no list gave */
export function parseRevisions(text: string | undefined): Revisions {
  if (text === undefined || text === '') return new Map();
  return new Map(
    text.split(',').map((part): [string, string] => {
      const at = part.indexOf('=');
      if (at <= 0 || at === part.length - 1) throw new InputError('revision', text, 'the revision of a list');
      return [part.slice(0, at), part.slice(at + 1)];
    }),
  );
}
