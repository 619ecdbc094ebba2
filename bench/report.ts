import { InputError } from '../src/base/errors.ts';
import { formatTable } from '../src/cli/output.ts';
import type { Summary } from './figure.ts';

/** Our side in tables that have a column for each competitor. */
const ours = 'Margay';

/** Figures for the terminal: beside one peer a line each, beside several one line for all of them. */
export function textReport(summaries: readonly Summary[]): string {
  const lists = [...suitesOf(summaries).values()];
  const plain = lists.filter((list) => peersOf(list).length === 1).flat();
  const tables = lists.filter((list) => peersOf(list).length > 1).map((list) => formatTable(compared(list)));
  if (plain.length > 0) tables.unshift(formatTable({ columns: listColumns, rows: plain.map(listRow) }));
  return tables.join('\n');
}

/** The same as Markdown tables. */
export function markdownReport(summaries: readonly Summary[]): string {
  return [...suitesOf(summaries).values()]
    .map((list) => {
      const { columns, rows } = compared(list);
      const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
      return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('');
    })
    .join('\n');
}

/** Puts text between the two comment lines `<!-- suite: begin -->` and `<!-- suite: end -->`. @throws InputError */
export function replacedBetween(document: string, suite: string, text: string): string {
  const [begin, end] = [`<!-- ${suite}: begin -->`, `<!-- ${suite}: end -->`];
  const from = document.indexOf(begin);
  const to = document.indexOf(end, from);
  if (from < 0 || to < 0) throw new InputError('--into', suite, `a file with the lines ${begin} and ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${text.trim()}\n\n${document.slice(to)}`;
}

/** The first word of a benchmark's or figure's name. */
export function suiteOf(name: string): string {
  return name.split('-')[0] ?? name;
}

/** By the first word of their names: figures that are measured the same way. */
export function suitesOf(summaries: readonly Summary[]): Map<string, Summary[]> {
  const suites = new Map<string, Summary[]>();
  for (const summary of summaries) {
    const suite = suiteOf(summary.name);
    suites.set(suite, [...(suites.get(suite) ?? []), summary]);
  }
  return suites;
}

const listColumns = ['name', 'ours', 'peer', 'ratio', 'spread', 'runs', 'peer is'];

function listRow({ name, ours: mine, peer, peerName, ratio, unit, runs, spread }: Summary): string[] {
  const [low, high] = spread;
  return [name, `${mine} ${unit}`, `${peer} ${unit}`, String(ratio), `${low}–${high} ${unit}`, String(runs), peerName];
}

function peersOf(summaries: readonly Summary[]): string[] {
  return [...new Set(summaries.map(({ peerName }) => peerName))];
}

/** A row for each figure, a column for each competitor: its value, and ours as a multiple of it. */
function compared(summaries: readonly Summary[]): { columns: string[]; rows: string[][] } {
  const peers = peersOf(summaries);
  const rows = [...Map.groupBy(summaries, ({ name }) => name)].map(([name, list]) => {
    const [first] = list;
    const cells = peers.map((peer) => {
      const found = list.find(({ peerName }) => peerName === peer);
      return found ? `${found.peer} (${found.ratio})` : '–';
    });
    return [name, first?.unit ?? '', String(first?.ours ?? ''), ...cells, String(first?.runs ?? '')];
  });
  return { columns: ['figure', 'unit', ours, ...peers, 'runs'], rows };
}
