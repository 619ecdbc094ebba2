import { type Format, yaml } from './output.ts';

/** Rows whose widths are known before they are printed. */
const batch = 512;

/**
 * Prints a list while it comes in, in bounded memory: a table in batches (columns only grow), JSON as one array, YAML as
 * one sequence.
 */
export class Listing<T> {
  #rows: (readonly string[])[] = [];
  #widths: number[];
  #count = 0;

  constructor(
    private readonly format: Format,
    columns: readonly string[],
    private readonly rowsOf: (item: T) => readonly (readonly string[])[],
    private readonly write: (text: string) => void = (text) => void process.stdout.write(text),
  ) {
    this.#widths = columns.map(() => 0);
    if (format === 'table') this.#rows.push(columns.map((name) => name.toUpperCase()));
  }

  get count(): number {
    return this.#count;
  }

  add(item: T): void {
    const first = this.#count++ === 0;
    switch (this.format) {
      case 'table':
        this.#rows.push(...this.rowsOf(item));
        if (this.#rows.length >= batch) this.#flush();
        break;
      case 'json':
        this.write(`${first ? '[\n' : ',\n'}${JSON.stringify(item)}`);
        break;
      case 'yaml':
        this.write(yaml().stringify([item]));
        break;
    }
  }

  /** @param empty what a table without rows says */
  end(empty: string): void {
    if (this.format === 'json') this.write(this.#count === 0 ? '[]\n' : '\n]\n');
    else if (this.#count > 0) this.#flush();
    else this.write(this.format === 'yaml' ? '[]\n' : `${empty}\n`);
  }

  #flush(): void {
    for (const row of this.#rows)
      for (const [at, text] of row.entries()) this.#widths[at] = Math.max(this.#widths[at] ?? 0, text.length);
    const lines = this.#rows.map((row) =>
      row
        .map((text, at) => text.padEnd(this.#widths[at] ?? 0))
        .join('   ')
        .trimEnd(),
    );
    if (lines.length > 0) this.write(`${lines.join('\n')}\n`);
    this.#rows = [];
  }
}
