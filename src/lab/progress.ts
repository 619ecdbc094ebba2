import pc from 'picocolors';

/** Prints each step with the time it took; plain when the output is no terminal. */
export class Progress {
  readonly #began = performance.now();
  readonly #colour = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
  readonly results: { readonly name: string; readonly ok: boolean; readonly detail: string }[] = [];

  constructor(private readonly print: (text: string) => void = (text) => void process.stdout.write(text)) {}

  /** Seconds since the beginning. */
  get seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }

  async step<T>(title: string, action: () => Promise<T>): Promise<T> {
    const began = performance.now();
    const result = await action();
    this.line(`${seconds(performance.now() - began)}  ${title}`);
    return result;
  }

  /** Records one expectation and prints it. */
  expect(name: string, ok: boolean, detail = ''): void {
    this.results.push({ name, ok, detail });
    const verdict = ok ? this.#colour.green('PASS') : this.#colour.red('FAIL');
    this.line(`  ${verdict}  ${name}${ok || detail === '' ? '' : `: ${detail}`}`);
  }

  heading(text: string): void {
    this.line('');
    this.line(this.#colour.bold(text));
  }

  line(text: string): void {
    this.print(`${text}\n`);
  }

  get failed(): number {
    return this.results.filter(({ ok }) => !ok).length;
  }
}

/** `  1.24 s`, always eight wide. */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(2).padStart(6)} s`;
}
