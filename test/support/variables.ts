import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { settingKeys } from '../../src/felix/config.ts';

const sources = join(import.meta.dirname, '../../src');

/**
 * The environment variables that the programs read, taken from their source: names that stand there as literals, those
 * that startup puts together of a family and a suffix, and felix's settings.
 */
export function variablesRead(): Set<string> {
  const files = readdirSync(sources, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const text = files.map((file) => readFileSync(join(sources, file), 'utf8')).join('\n');
  const found = (pattern: RegExp) => [...text.matchAll(pattern)].map(([, name = '']) => name);
  return new Set([
    ...found(/'([A-Z][A-Z0-9_]+)'/g),
    ...found(/`\$\{at\}([A-Z_]+)`/g).flatMap((name) => [4, 6].map((family) => `CALICO_IPV${family}POOL_${name}`)),
    ...found(/`\$\{field\}(_[A-Z_]+)`/g).flatMap((name) => [`IP${name}`, `IP6${name}`]),
    ...[...settingKeys.keys()].map((name) => `FELIX_${name}`),
  ]);
}
