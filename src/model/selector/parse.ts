import { InputError } from '../../base/errors.ts';
import { type Comparison, type Node, setValues } from './tree.ts';

/** Parentheses may nest this deep; people write two or three. */
const maxDepth = 100;
const maxLabel = 512;

const label = /[A-Za-z0-9_./-]+/y;
const blank = /[ \t]*/y;
/** Words that compare, recognised only after a label; the two-word ones may be written as one. */
const operators: readonly (readonly [RegExp, Comparison | 'in' | 'not in'])[] = [
  [/==/y, '=='],
  [/!=/y, '!='],
  [/contains\b/y, 'contains'],
  [/starts[ \t]*with\b/y, 'starts with'],
  [/ends[ \t]*with\b/y, 'ends with'],
  [/not[ \t]*in\b/y, 'not in'],
  [/in\b/y, 'in'],
];

/**
 * Calico's selector language: recursive descent over the text.
 *
 *     or = and {"||" and}     and = op {"&&" op}
 *     op = {"!"} ( "has(" L ")" | "all(" ")" | "global(" ")" | "(" or ")" | L compare S | L set "{" [S {"," S} [","]] "}" )
 */
export class Parser {
  #at = 0;
  #depth = 0;

  constructor(
    private readonly text: string,
    private readonly field: string,
  ) {}

  /** The whole text as one selector; nothing but blanks is `all()`. @throws InputError with the position */
  parse(): Node {
    this.#skip();
    if (this.#at === this.text.length) return { op: 'all' };
    const node = this.#or();
    if (this.#at < this.text.length) throw this.#error('"&&", "||" or the end');
    return node;
  }

  #or(): Node {
    return this.#list('or', '||', () => this.#list('and', '&&', () => this.#operation()));
  }

  #list(op: 'and' | 'or', separator: string, element: () => Node): Node {
    const first = element();
    const operands = [first];
    while (this.#take(separator)) operands.push(element());
    return operands.length === 1 ? first : { op, operands };
  }

  #operation(): Node {
    let negated = false;
    while (this.#take('!')) negated = !negated;
    const node = this.#operand();
    return negated ? { op: 'not', operand: node } : node;
  }

  #operand(): Node {
    if (this.#take('has(')) {
      const name = this.#label();
      this.#expect(')');
      return { op: 'has', label: name };
    }
    for (const op of ['all', 'global'] as const) {
      if (!this.#take(`${op}(`)) continue;
      this.#expect(')');
      return { op };
    }
    if (this.#take('(')) {
      if (++this.#depth > maxDepth) throw this.#error(`at most ${maxDepth} nested parentheses`);
      const node = this.#or();
      this.#expect(')');
      this.#depth--;
      return node;
    }
    return this.#comparison();
  }

  #comparison(): Node {
    const name = this.#label();
    const found = operators.find(([pattern]) => this.#match(pattern) !== undefined);
    if (!found) throw this.#error('an operator (==, !=, in, not in, contains, starts with, ends with)');
    this.#skip();
    const op = found[1];
    if (op === 'in' || op === 'not in') return { op, label: name, values: this.#set() };
    return { op, label: name, value: this.#literal() };
  }

  #set(): string[] {
    const values: string[] = [];
    this.#expect('{');
    while (!this.#take('}')) {
      values.push(this.#literal());
      if (this.#take(',')) continue;
      this.#expect('}');
      break;
    }
    return setValues(values);
  }

  #literal(): string {
    const quote = this.text[this.#at];
    if (quote !== '"' && quote !== "'") throw this.#error('a quoted value');
    const end = this.text.indexOf(quote, this.#at + 1);
    if (end < 0) throw this.#error('a closing quote');
    const value = this.text.slice(this.#at + 1, end);
    this.#at = end + 1;
    this.#skip();
    return value;
  }

  #label(): string {
    const name = this.#peek(label);
    if (name === undefined) throw this.#error('a label name');
    if (name.length > maxLabel) throw this.#error(`a label name of at most ${maxLabel} characters`);
    this.#at += name.length;
    this.#skip();
    return name;
  }

  /** Steps over `word` and the blanks after it, if it comes next. */
  #take(word: string): boolean {
    if (!this.text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    this.#skip();
    return true;
  }

  #expect(word: string): void {
    if (!this.#take(word)) throw this.#error(`"${word}"`);
  }

  #skip(): void {
    this.#match(blank);
  }

  #match(pattern: RegExp): string | undefined {
    const found = this.#peek(pattern);
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #peek(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.text)?.[0];
  }

  #error(expected: string): InputError {
    const rest = this.text.slice(this.#at, this.#at + 20);
    const found = rest === '' ? 'the end' : JSON.stringify(rest);
    return new InputError(this.field, this.text, `${expected} at position ${this.#at + 1}, found ${found}`);
  }
}
