import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { expect, test } from 'vitest';
import { benchmarks } from '../../../bench/benchmarks.ts';
import { ctlProgram } from '../../../src/cli/ctl-program.ts';
import { margayProgram } from '../../../src/cli/margay-program.ts';
import { labProgram } from '../../../src/lab/program.ts';
import { commandPage, commandsOf } from './commands.ts';

const root = join(import.meta.dirname, '../../..');
const pages = ['*.md', 'docs/**/*.md', 'deploy/**/*.md', 'test/**/*.md', 'bench/**/*.md'].flatMap((pattern) =>
  globSync(pattern, { cwd: root }),
);
const textOf = (page: string) => readFileSync(join(root, page), 'utf8');
const withoutBlocks = (text: string) => text.replace(/```.*?```/gs, '');

/** As GitHub makes an anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\- _]/gu, '')
    .replaceAll(' ', '-');
}

function brokenLinks(page: string): string[] {
  const targets = [...withoutBlocks(textOf(page)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  return targets
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : normalize(join(dirname(page), path));
      if (!existsSync(join(root, file))) return true;
      if (anchor === undefined) return false;
      const headings = [...withoutBlocks(textOf(file)).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
      return !headings.map(anchorOf).includes(anchor);
    });
}

test('there are pages', () => expect(pages.length).toBeGreaterThan(60));

test.each(pages)('%s: its links lead somewhere', (page) => expect(brokenLinks(page)).toEqual([]));

test('every decision that is referred to is written down', () => {
  const known = new Set(
    globSync('*.md', { cwd: join(root, 'docs/decisions') }).map((name) => Number(name.slice(0, 4))),
  );
  const files = [
    ...pages,
    ...globSync(['src/**/*.ts', 'bench/**/*.ts', 'test/**/*.ts', 'scripts/**/*.ts'], { cwd: root }),
  ];
  const unknown = files.flatMap((file) =>
    [...textOf(file).matchAll(/\bdecisions? (\d+)(?: and (\d+))?\b/g)]
      .flatMap(([, one, other]) => [one, other].filter((number) => number !== undefined))
      .filter((number) => !known.has(Number(number)))
      .map((number) => `${file}: decision ${number}`),
  );
  expect(unknown).toEqual([]);
});

test('every script of npm that a page names is there', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  const named = pages.flatMap((page) =>
    [...textOf(page).matchAll(/npm run (?:-s )?([a-z][a-z0-9:-]*)/g)].map(([, script = '']) => ({ page, script })),
  );
  expect(named.filter(({ script }) => scripts[script] === undefined)).toEqual([]);
});

test('docs/commands.md is what the commands themselves tell (npm run test:unit -- test/unit/docs -u writes it)', async () => {
  await expect(commandPage([labProgram(), margayProgram(), ctlProgram()])).toMatchFileSnapshot(
    join(root, 'docs/commands.md'),
  );
});

test('every option that a page gives a command of ours is one of it', () => {
  const commands = [margayProgram(), ctlProgram()].flatMap((program) => commandsOf(program)).toReversed();
  const wrong = pages.flatMap((page) =>
    [...textOf(page).matchAll(/\b(margay(?:ctl)? [a-z][^`|\n]*?)(?=$|[`|\n])/gm)].flatMap(([, line = '']) => {
      const found = commands.find(({ words }) => line === words || line.startsWith(`${words} `));
      const known = new Set(['--help', ...(found?.command.options.map(({ long }) => long ?? '') ?? [])]);
      const given = [...line.matchAll(/(?<=\s)--[a-z][a-z-]*/g)].map(([option]) => option);
      return found ? given.filter((option) => !known.has(option)).map((option) => `${page}: ${line}: ${option}`) : [];
    }),
  );
  expect(wrong).toEqual([]);
});

test('every benchmark is on its page', () => {
  const page = textOf(relative(root, join(root, 'docs/benchmarks.md')));
  const missing = Object.keys(benchmarks).filter(
    (name) => !new RegExp(`(?<![a-z0-9-])${name}(?![a-z0-9-])`).test(page),
  );
  expect(missing).toEqual([]);
});
