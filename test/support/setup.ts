import { rmSync } from 'node:fs';
import { ownTemporary, removeLeftovers } from './leftovers.ts';

/** Before a run: what runs that were killed have left. During it: a folder of its own for temporary files. */
export default async function setUp(): Promise<(() => void) | undefined> {
  if (process.env['MARGAY_TEST_TEMPORARY'] !== undefined) return undefined;
  const removed = process.getuid?.() === 0 ? await removeLeftovers() : [];
  if (removed.length > 0) process.stderr.write(`left by earlier runs, now removed: ${removed.join(', ')}\n`);
  const folder = ownTemporary();
  process.env['MARGAY_TEST_TEMPORARY'] = folder;
  process.env['TMPDIR'] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
