import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LineCounter } from 'yaml';
import { parseDocuments } from '../../../src/base/yaml.ts';
import { readInput } from '../../../src/cli/apply.ts';
import { readSpeakerFile } from '../../../src/cli/bgp-file.ts';
import { clusterOfFiles } from '../../../src/cli/cluster-objects.ts';
import { readManifests } from '../../../src/cli/documents.ts';
import { readCases } from '../../../src/cli/policy-cases.ts';
import { validate } from '../../../src/cli/validate.ts';
import { parseDump } from '../../../src/migrate/file.ts';
import type { NetworkPolicy } from '../../../src/model/kinds.ts';

/* What nobody means: each is answered with its place, in time that grows with the text alone, by all that read files. */

const head = 'apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n';
const many = <T>(count: number, of: (at: number) => T) => Array.from({ length: count }, (_, at) => of(at));
const tenfold = many(12, (i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(',')}]`).join('\n');

/** Texts that no command reads, and what all of them say. */
const refused: readonly [string, string, RegExp][] = [
  ['lists without end', '['.repeat(1_000_000), /^f:1: "nesting": expected at most 100 levels$/],
  ['mappings without end', `${head}  a: ${'{a: '.repeat(200_000)}`, /^f:5: "nesting"/],
  ['lists in lists by dashes', `a:\n${'- '.repeat(200_000)}x\n`, /^f:2: "nesting"/],
  ['keys of keys', '? '.repeat(200_000), /^f:1: "nesting"/],
  ['deeper lines', many(150, (i) => `${' '.repeat(i)}a:`).join('\n'), /^f:\d+: "nesting"/],
  ['aliases that multiply', `a0: &a0 [x]\n${tenfold}\n`, /^f:12: "aliases": expected at most 100 in a document$/],
  ['an alias for every line', many(20_000, (i) => `a${i}: &a${i} 1\nb${i}: *a${i}`).join('\n'), /^f:202: "aliases"/],
  ['documents without end', '---\n'.repeat(11_000), /^f:10001: "another document": expected at most 10000 documents$/],
  ['octets without end', '#'.repeat(9 << 20), /^f: "9437184 octets": expected at most 8388608 octets$/],
];

describe.each(refused)('%s', (_, text, message) => {
  test('validate', () => expect(() => validate([{ file: 'f', text }], 'default')).toThrow(message));
  test('apply', () => expect(() => readManifests(text, 'f', 'default')).toThrow(message));
  test('policy test', () => expect(() => readCases(text, 'f')).toThrow(message));
  test('bgp --config', () => {
    const folder = mkdtempSync(join(tmpdir(), 'hostile-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'bgp.yaml');
    writeFileSync(file, text);
    expect(() => readSpeakerFile(file)).toThrow(new RegExp(message.source.replace('^f', `^${file}`)));
  });
});

/** A dump may be larger than a manifest, and no deeper. */
describe.each(refused.filter(([what]) => !what.startsWith('octets')))('%s', (_, text, message) => {
  test('datastore migrate import', () => expect(() => parseDump(`${text}\n===\n{}\n===\n{}\n`, 'f')).toThrow(message));
});

test('a dump with ten thousand keys is read once each, and a repeated one is found', () => {
  const list = (keys: readonly string[]) =>
    `apiVersion: projectcalico.org/v3\nkind: NetworkSetList\nitems:\n- metadata: {name: s, namespace: n, labels: {${keys.join(',\n    ')}}}\n  spec: {}\n===\n{}\n===\n{}\n`;
  const labels = many(10_000, (i) => `k${i}: a`);
  expect(parseDump(list(labels), 'f').items).toHaveLength(1);
  expect(() => parseDump(list([...labels, 'k0: b']), 'f')).toThrow('f:10004: "k0": expected a key that stands once');
});

test('words without end are refused where they become too many', () => {
  const parsed = (tokens: number) =>
    parseDocuments(`a:\n  [${'1,'.repeat(600)}]\n`, 'f', new LineCounter(), { tokens });
  expect(parsed(3000)).toHaveLength(1);
  expect(() => parsed(1000)).toThrow(/^f:2: "more than 1000 words, signs and spaces": expected a smaller file$/);
});

test('policy diff and policy test name the file, too', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hostile-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [at, [, text, message]] of refused.entries()) {
    const file = join(folder, `${at}.yaml`);
    writeFileSync(file, text);
    const told = new RegExp(message.source.replace('^f', `^${file}`));
    await expect(clusterOfFiles([file], 'default')).rejects.toThrow(told);
  }
});

test('tens of thousands of labels are read once each, and a repeated one is found', () => {
  const labels = many(25_000, (i) => `k${i}: a`);
  const text = (keys: readonly string[]) => head.replace('{name: p}', `{name: p, labels: {${keys.join(',\n  ')}}}`);
  const [manifest] = readManifests(`${text(labels)}  selector: all()\n`, 'f', 'default');
  expect(Object.keys(manifest ? ((manifest.value as NetworkPolicy).metadata.labels ?? {}) : {})).toHaveLength(25_000);
  const twice = `${text([...labels, 'k0: b'])}  selector: all()\n`;
  const message = 'f:25003: "k0": expected readable YAML: Map keys must be unique';
  expect(() => readManifests(twice, 'f', 'default')).toThrow(message);
});

test('of very many problems the first ones are listed, each with its line', () => {
  const text = `${head}${many(5_000, (i) => `  k${i}: 1`).join('\n')}\n`;
  const found = validate([{ file: 'f', text }], 'default');
  expect(found.slice(0, 2).map(({ line, field }) => [line, field])).toEqual([
    [1, 'document'],
    [5, 'spec.k0'],
  ]);
  expect(found[0]?.found).toBe('4000 problems more');
  expect(found.at(-1)).toMatchObject({ line: 1004, field: 'spec.k999', expected: 'no such field' });
});

test('what is not YAML at all is told in few words', () => {
  const text = ': : : - - [ ] } { ! | > \n'.repeat(2000);
  const found = validate([{ file: 'f', text }], 'default');
  expect(found).toHaveLength(20);
  expect(found[0]).toMatchObject({ line: 1, field: 'document', expected: expect.stringMatching(/^readable YAML: /) });
});

describe('wrong types and unknown fields in a case file', () => {
  const pods = 'pods:\n- {name: web, namespace: shop, labels: {app: web}}\n';
  test.each([
    [
      'a list for a text',
      `${pods}cases:\n- {from: [web], to: "web:1", expect: allow}\n`,
      /^f:4: cases\[0\]\.from: \["web"\]/,
    ],
    ['a number for a label', `${pods.replace('app: web', 'app: 7')}cases: []\n`, /^f:2: pods\[0\]\.labels\.app: 7/],
    [
      'a text for a port',
      `${pods.replace('labels:', 'ports: [{name: a, port: x}], labels:')}cases: []\n`,
      /^f:2: pods\[0\]\.ports\[0\]\.port: "x"/,
    ],
    ['an unknown field', `${pods.replace('labels', 'lables')}cases: []\n`, /^f:2: pods\[0\]\.lables: .*no such field/],
    [
      'a repeated key',
      `${pods}cases: []\ncases: []\n`,
      /^f:4: "cases": expected readable YAML: Map keys must be unique/,
    ],
  ])('%s', (_, text, message) => {
    expect(() => readCases(text, 'f')).toThrow(message);
  });
});

test('what a repeated key hides is not read: text and number keys of one look are the same', () => {
  expect(() => readManifests(`${head}  order: 1\n  "order": 2\n`, 'f', 'default')).toThrow(/^f:6: "order": .*unique/);
});

test.each([
  [
    'octets of no text',
    (at: string) => writeFileSync(at, Buffer.from([0x6b, 0xff, 0xfe])),
    /"octets that are no UTF-8": expected a text/,
  ],
  ['a directory', (at: string) => mkdirSync(at), /^--filename: .*: expected a file, not a directory$/],
  ['nothing', () => undefined, /^--filename: .*: expected a file that exists$/],
])('a file of %s is refused', async (_, make, message) => {
  const directory = mkdtempSync(join(tmpdir(), 'margay-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const at = join(directory, 'f');
  make(at);
  await expect(readInput(at)).rejects.toThrow(message);
});
