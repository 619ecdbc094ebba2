import { expect, test } from 'vitest';
import { speakerFailure } from '../../../src/cli/probe.ts';

const status = (converged: boolean, established: number, configured = 2, awaited: string[] = []) =>
  speakerFailure({ converged, awaited, peers: { configured, established } });

test('a speaker is ready once it has heard everybody, and has a session where it has peers', () => {
  expect(status(true, 1)).toBeUndefined();
  expect(status(true, 0, 0)).toBeUndefined();
  expect(status(true, 0)).toContain('none of 2 BGP sessions');
});

test('it is not ready while whole tables are awaited, though a session stands', () => {
  expect(status(false, 1, 2, ['4 mesh-n2'])).toContain('4 mesh-n2');
  expect(status(false, 2)).toContain('not complete');
});
