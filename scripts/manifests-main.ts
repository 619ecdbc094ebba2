import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { chart } from './manifests/chart.ts';
import { manifests } from './manifests/manifests.ts';
import { uninstaller, uninstallFile } from './manifests/uninstall.ts';

/* Writes the manifests and the chart of deploy/ below the directory in the first argument. */

const deploy = join(process.argv[2] ?? '.', 'deploy');
const plain = [...manifests(), [uninstallFile, uninstaller()] as const];
const made = [...plain, ...[...chart()].map(([file, text]) => [join('chart', file), text] as const)];
rmSync(join(deploy, 'chart'), { recursive: true, force: true });
for (const [file, text] of made) {
  mkdirSync(dirname(join(deploy, file)), { recursive: true });
  writeFileSync(join(deploy, file), text);
}
symlinkSync('../crds', join(deploy, 'chart/crds'));
process.stdout.write(`${made.length} files in ${deploy}\n`);
