import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { definitions } from './crds.ts';

/* Writes deploy/crds below the directory in the first argument. */

const folder = join(process.argv[2] ?? '.', 'deploy/crds');
const made = definitions();
mkdirSync(folder, { recursive: true });
for (const file of readdirSync(folder)) if (!made.has(file)) rmSync(join(folder, file));
for (const [file, text] of made) writeFileSync(join(folder, file), text);
process.stdout.write(`${made.size} definitions in ${folder}\n`);
