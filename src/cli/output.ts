import { InputError } from '../base/errors.ts';

export type Format = 'table' | 'json' | 'yaml';

/** The value of `-o`. @throws InputError */
export function parseFormat(text: string | undefined): Format {
  if (text === undefined || text === 'table') return 'table';
  if (text === 'json' || text === 'yaml') return text;
  throw new InputError('--output', text, 'json or yaml');
}

export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Columns aligned by spaces, as kubectl prints them; a table without rows says so. */
export function formatTable({ columns, rows }: Table, empty = 'none'): string {
  if (rows.length === 0) return `${empty}\n`;
  const lines = [columns.map((name) => name.toUpperCase()), ...rows];
  const widths = columns.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map(
      (line) =>
        `${columns
          .map((_, column) => (line[column] ?? '').padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Prints data as asked: the table for people, or the value as it is. Big integers appear as numbers. */
export function print(format: Format, value: unknown, table: () => string): void {
  process.stdout.write(render(format, value, table));
}

/** The text for a value in a format. @param table makes what people read, called for that format alone */
export function render(format: Format, value: unknown, table: () => string): string {
  switch (format) {
    case 'table':
      return table();
    case 'json':
      return `${JSON.stringify(value, null, 2)}\n`;
    case 'yaml':
      return yaml().stringify(value);
  }
}

/** Loaded only by who wants it: a third of what the shortest command takes. */
export function yaml(): typeof import('yaml') {
  const { createRequire } = process.getBuiltinModule('node:module');
  return createRequire(import.meta.url)('yaml') as typeof import('yaml');
}

/** `3d4h`, `5m12s`, `42s`: a duration in the two largest units. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const units: [number, string][] = [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'm'],
    [1, 's'],
  ];
  const at = units.findIndex(([size]) => whole >= size);
  if (at < 0) return '0s';
  const [size, unit] = units[at] ?? [1, 's'];
  const [nextSize, nextUnit] = units[at + 1] ?? [1, ''];
  const rest = Math.floor((whole % size) / nextSize);
  return `${Math.floor(whole / size)}${unit}${nextUnit && rest ? `${rest}${nextUnit}` : ''}`;
}
