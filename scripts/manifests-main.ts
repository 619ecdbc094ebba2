import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { manifests } from './manifests/manifests.ts';

/* Writes the manifests of deploy/ below the directory in the first argument. */

const made = manifests();
for (const [file, text] of made) {
  const path = join(process.argv[2] ?? '.', 'deploy', file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
process.stdout.write(`${made.size} files in deploy\n`);
