import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSpeakerFile } from '../../../src/cli/bgp-file.ts';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'margay-file-'));
  file = join(directory, 'bgp.yaml');
});

afterEach(() => rmSync(directory, { recursive: true }));

test('password files are found beside the file', () => {
  writeFileSync(join(directory, 'tor.key'), 'sesame\n');
  writeFileSync(
    file,
    'asn: 64512\nrouterId: 10.0.0.1\nneighbors:\n  - { address: 10.0.0.2, asn: 65001, passwordFile: tor.key }\n',
  );
  expect(readSpeakerFile(file).config.peers[0]?.password?.reveal()).toBe('sesame');
});

test('every problem has its line and field', () => {
  writeFileSync(
    file,
    `# a comment
asn: 64512
routerId: 10.0.0.1
neighbors:
  - address: 10.0.0.2
    asn: 65001
    holdSeconds: 2
  - address: 10.0.0.3
    pasword: x
`,
  );
  const message = (() => {
    try {
      readSpeakerFile(file);
      return '';
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : '';
    }
  })();
  expect(message.split('\n').sort()).toEqual([
    `${file}:7: neighbors[0].holdSeconds: 2: expected 0, or 3 and more`,
    `${file}:8: neighbors[1].asn: missing: expected an AS number from 1 to 4294967295`,
    `${file}:9: neighbors[1].pasword: "x": expected no such field`,
  ]);
});

test.each([
  ['asn: [1\nrouterId: x\n', /bgp\.yaml:\d: Flow sequence/],
  ['', /document: null: expected object/],
  ['asn: 1\nrouterId: 10.0.0.1\n---\nasn: 2\n', /bgp\.yaml:3: .*multiple documents/],
  [
    'a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n'.concat('b: [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n'),
    /no such field/,
  ],
])('%j is refused', (text, expected) => {
  writeFileSync(file, text);
  expect(() => readSpeakerFile(file)).toThrow(expected);
});

test('a file that is not there', () => {
  expect(() => readSpeakerFile(join(directory, 'nothere'))).toThrow(/--config: ENOENT/);
});

test('the example of the guide is understood', () => {
  const guide = readFileSync(join(import.meta.dirname, '../../../docs/bgp.md'), 'utf8');
  const example = [...guide.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => text);
  writeFileSync(join(directory, 'tor.key'), 'sesame');
  writeFileSync(file, example.find((text) => text.startsWith('asn:')) ?? '');
  const { config } = readSpeakerFile(file);
  expect(config.peers[0]?.importRules?.[4]).toHaveLength(2);
  expect(config.ranges).toMatchObject([{ name: 'clients', limit: 100, peer: { routeReflectorClient: true } }]);
});
