import { Composer, CST, type Document, isMap, isScalar, Lexer, type LineCounter, Parser, visit } from 'yaml';
import { InputError } from './errors.ts';

/*
 * YAML of strangers as documents, in time and memory that grow with the text alone. The library would go as deep as the text
 * does, look through all keys of a mapping for each of them, and through the whole document for each alias.
 */

/** Most octets of a manifest file; Kubernetes refuses objects of more than about 1.5 MiB each. */
export const largestManifest = 8 << 20;
/** Most documents in one file. */
const mostDocuments = 10_000;
/** Most collections within each other; Kubernetes' own objects have less than twenty. */
const deepest = 100;
/** Most aliases of one document. */
const mostAliases = 100;

/** How large a file may be. */
export interface YamlLimits {
  readonly octets: number;
  /** Words, signs and spaces: what memory grows with. */
  readonly tokens: number;
}

const usual: YamlLimits = { octets: largestManifest, tokens: 3_000_000 };

/**
 * The documents of a text, with their faults. Keys that stand twice are left to `repeatedKeys`.
 * @param file for messages
 * @param lines is filled
 * @throws InputError naming file and line for what is too large, too deep, or has too many documents or aliases
 */
export function parseDocuments(
  text: string,
  file: string,
  lines: LineCounter,
  limits: Partial<YamlLimits> = {},
): readonly Document.Parsed[] {
  const { octets, tokens } = { ...usual, ...limits };
  const size = Buffer.byteLength(text);
  if (size > octets) throw new InputError(file, `${size} octets`, `at most ${octets} octets`);
  const composer = new Composer({ uniqueKeys: false, logLevel: 'silent', lineCounter: lines });
  const documents: Document.Parsed[] = [];
  // The library makes an Error of every fault; the stacks of a million of them would fill the memory.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    for (const document of composer.compose(boundedTokens(text, file, lines, tokens))) {
      documents.push(document as Document.Parsed);
      if (documents.length > mostDocuments) {
        const { line } = lines.linePos(document.range[0]);
        throw new InputError(`${file}:${line}`, 'another document', `at most ${mostDocuments} documents`);
      }
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  return documents;
}

/** What the parser makes of a text, until it goes too far. */
function* boundedTokens(text: string, file: string, lines: LineCounter, mostTokens: number): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine);
  const refuse = (value: string, expected: string) =>
    new InputError(`${file}:${lines.lineStarts.length}`, value, expected);
  let tokens = 0;
  let aliases = 0;
  let isContent = false;
  lines.addNewLine(0);
  for (const source of new Lexer().lex(text)) {
    // A mark announces that a scalar comes, whatever it looks like.
    const type: CST.TokenType | 'content' | null = isContent ? 'content' : CST.tokenType(source);
    isContent = type === 'scalar';
    if (type === 'doc-mode') aliases = 0;
    if (type === 'alias' && ++aliases > mostAliases) throw refuse('aliases', `at most ${mostAliases} in a document`);
    if (++tokens > mostTokens) throw refuse(`more than ${mostTokens} words, signs and spaces`, 'a smaller file');
    yield* parser.next(source);
    if (parser.stack.length > deepest) throw refuse('nesting', `at most ${deepest} levels`);
  }
  yield* parser.end();
}

/** A document without faults as plain data. @throws InputError at `where` for aliases that multiply without end */
export function plainValue(document: Document.Parsed, where: string): unknown {
  try {
    return document.toJS({ maxAliasCount: mostAliases });
  } catch (cause) {
    throw new InputError(where, 'aliases', 'YAML whose aliases do not multiply without end', { cause });
  }
}

/** A key that stands more than once in its mapping. */
export interface RepeatedKey {
  readonly key: string;
  /** Where it stands again in the text. */
  readonly offset: number;
}

/** The keys that stand twice in a document. @param most after so many nothing more is looked for */
export function repeatedKeys(document: Document.Parsed, most: number): RepeatedKey[] {
  const found: RepeatedKey[] = [];
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value)) found.push({ key: String(key.value), offset: key.range?.[0] ?? 0 });
        seen.add(key.value);
      }
      return found.length >= most ? visit.BREAK : undefined;
    },
  });
  return found.slice(0, most);
}

/** The members of a mapping by their keys, as often as it is asked for in the time of once. */
export class MemberIndex {
  readonly #maps = new WeakMap<object, ReadonlyMap<unknown, unknown>>();

  /** The value under a key of a mapping or the item of a list; undefined where there is none. */
  get(collection: unknown, step: string | number): unknown {
    if (isMap(collection)) {
      let members = this.#maps.get(collection);
      if (!members) {
        members = new Map(collection.items.map(({ key, value }) => [isScalar(key) ? String(key.value) : key, value]));
        this.#maps.set(collection, members);
      }
      return members.get(String(step));
    }
    const { items } = (collection ?? {}) as { items?: readonly unknown[] };
    return typeof step === 'number' ? items?.[step] : undefined;
  }
}
