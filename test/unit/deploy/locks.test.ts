import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/* The lists of Debian's packages in the image (decision 48). */

const lines = (architecture: string) => {
  const file = join(import.meta.dirname, `../../../deploy/debian-${architecture}.lock`);
  return readFileSync(file, 'utf8').trimEnd().split('\n');
};

test.each(['amd64', 'arm64'])('%s: name, version and digest, in order, each once', (architecture) => {
  const found = lines(architecture);
  for (const line of found) expect(line).toMatch(/^[a-z0-9][a-z0-9+.-]+ (\d+:)?\d[A-Za-z0-9.+~-]* [0-9a-f]{64}$/);
  const names = found.map((line) => line.split(' ')[0]);
  expect(names).toEqual([...new Set(names)].sort());
  expect(names).toEqual(expect.arrayContaining(['coreutils', 'dash', 'ipset', 'iptables', 'libstdc++6', 'netbase']));
});

test('both architectures have the same packages', () => {
  const named = (architecture: string) => lines(architecture).map((line) => line.split(' ')[0]);
  expect(named('arm64')).toEqual(named('amd64'));
});
