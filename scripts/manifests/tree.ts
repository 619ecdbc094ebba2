import { stringify } from 'yaml';

/*
 * Kubernetes objects with places that an installation fills. One tree has two forms: resolved with values it is a plain
 * manifest, emitted as it stands a template of the Helm chart.
 */

export type Scalar = string | number | boolean | null;

/** A value, named by its path below `.Values`, or below `.Release` for what Helm itself knows. */
export interface Place {
  readonly place: 'Values' | 'Release';
  readonly path: string;
}

/** Text with a value in it. The values it may take need no quoting, which the chart's schema sees to. */
export interface Composed {
  readonly before: string;
  readonly value: Place;
}

/** The digest of a value, which changes with it. */
export interface Digest {
  readonly sha256: Place;
}

/** What only helm can keep true: the plain manifests are without it. */
export interface InChart {
  readonly inChart: Tree;
}

/** A tree that stands only where a value is the given text or, without `is`, is not empty. */
export interface Conditional {
  readonly when: { readonly value: Place; readonly is?: string };
  readonly body: Tree;
}

/** A tree with lines of comment before it. */
export interface Noted {
  readonly note: string;
  readonly on: Tree;
}

export interface Fields {
  readonly fields: { readonly [name: string]: Tree };
}

export type Tree = Scalar | Place | Composed | Digest | InChart | Conditional | Noted | Fields | readonly Tree[];

/** A literal, as TypeScript has it, with trees inside. */
export type Literal = Tree | { readonly [name: string]: Literal } | readonly Literal[];

const marks = ['place', 'before', 'sha256', 'inChart', 'when', 'note', 'fields'];

export function value(path: string): Place {
  return { place: 'Values', path };
}

export function release(path: string): Place {
  return { place: 'Release', path };
}

export function composed(before: string, path: string): Composed {
  return { before, value: value(path) };
}

/** The digest of a value, in the chart. */
export function digest(path: string): Digest {
  return { sha256: value(path) };
}

export function inChart(body: Literal): InChart {
  return { inChart: tree(body) };
}

/** `body` where the value is `is`, or is not empty. */
export function when(path: string, body: Literal, is?: string): Conditional {
  return { when: { value: value(path), ...(is !== undefined && { is }) }, body: tree(body) };
}

/** `on` with a comment of one or more lines. */
export function noted(note: string, on: Literal): Noted {
  return { note, on: tree(on) };
}

/** A literal as a tree: objects that are no nodes become fields. */
export function tree(literal: Literal): Tree {
  if (typeof literal !== 'object' || literal === null) return literal;
  if (Array.isArray(literal)) return (literal as readonly Literal[]).map(tree);
  if (marks.some((mark) => Object.hasOwn(literal, mark))) return literal as Tree;
  return { fields: Object.fromEntries(Object.entries(literal).map(([name, each]) => [name, tree(each as Literal)])) };
}

/** The comment at the top of a manifest. */
export function head(about: string): string {
  const lines = [...about.split('\n'), '', 'Made by `npm run manifests`: change scripts/manifests instead.'];
  return lines.map((line) => `#${line === '' ? '' : ` ${line}`}\n`).join('');
}

/** What fills the places: trees without conditions. */
export interface Settings {
  readonly Values: Tree;
  readonly Release: Tree;
}

/** @throws TypeError for a place that nothing fills */
export function read(settings: Settings, { place, path }: Place): Tree {
  let at: Tree | undefined = settings[place];
  for (const name of path.split('.')) {
    const inside: Tree = bare(at);
    at = isObject(inside) && 'fields' in inside ? inside.fields[name] : undefined;
    if (at === undefined) throw new TypeError(`.${place}.${path}: no value`);
  }
  return bare(at);
}

function bare(node: Tree): Tree {
  return isObject(node) && 'note' in node ? bare(node.on) : node;
}

/** The tree with all places filled; undefined where a condition leaves it out. */
export function resolve(node: Tree, settings: Settings): Tree | undefined {
  if (Array.isArray(node)) return resolveAll(node as readonly Tree[], settings);
  if (!isObject(node)) return node;
  if ('place' in node) return read(settings, node);
  if ('before' in node) return node.before + String(read(settings, node.value));
  if ('inChart' in node || 'sha256' in node) return undefined;
  if ('when' in node) return holds(node.when, settings) ? resolve(node.body, settings) : undefined;
  if ('note' in node) {
    const on = resolve(node.on, settings);
    return on === undefined ? undefined : { note: node.note, on };
  }
  const kept = Object.entries(node.fields).flatMap(([name, each]) =>
    resolveAll([each], settings).map((made) => [name, made] as const),
  );
  return { fields: Object.fromEntries(kept) };
}

function resolveAll(nodes: readonly Tree[], settings: Settings): Tree[] {
  return nodes.flatMap((each) => {
    const made = resolve(each, settings);
    return made === undefined ? [] : [made];
  });
}

function holds({ value: place, is }: Conditional['when'], settings: Settings): boolean {
  const found = read(settings, place);
  if (is !== undefined) return found === is;
  return Array.isArray(found) ? found.length > 0 : Boolean(found);
}

/** The fields of `changes` over those of `base`, whose comments stay. */
export function merged(base: Tree, changes: Literal): Tree {
  const over = tree(changes);
  if (isObject(base) && 'note' in base) return { note: base.note, on: merged(base.on, over) };
  if (!(isObject(base) && 'fields' in base && isObject(over) && 'fields' in over)) return over;
  const all = Object.entries(over.fields).map(([name, each]) => {
    const before = base.fields[name];
    return [name, before === undefined ? each : merged(before, each)] as const;
  });
  return { fields: { ...base.fields, ...Object.fromEntries(all) } };
}

/** Block YAML of a tree; places and conditions become actions of Go's text/template. */
export function emit(node: Tree): string {
  return `${block(node, '').join('\n')}\n`;
}

function block(node: Tree, indent: string): string[] {
  if (Array.isArray(node)) return (node as readonly Tree[]).flatMap((each) => item(each, indent));
  if (!isObject(node)) return [`${indent}${inline(node)}`];
  if ('fields' in node) return Object.entries(node.fields).flatMap(([name, each]) => field(name, each, indent));
  if ('when' in node) return conditionally(node, block(node.body, indent));
  if ('note' in node) return [...comment(node.note, indent), ...block(node.on, indent)];
  return [`${indent}${inline(node)}`];
}

function field(name: string, node: Tree, indent: string): string[] {
  if (isObject(node) && 'inChart' in node) return field(name, node.inChart, indent);
  if (isObject(node) && 'when' in node) return conditionally(node, field(name, node.body, indent));
  if (isObject(node) && 'note' in node) return [...comment(node.note, indent), ...field(name, node.on, indent)];
  const key = `${indent}${inline(name)}:`;
  return isNested(node) ? [key, ...block(node, `${indent}  `)] : [`${key} ${inline(node)}`];
}

function item(node: Tree, indent: string): string[] {
  if (isObject(node) && 'when' in node) return conditionally(node, item(node.body, indent));
  if (isObject(node) && 'note' in node) return [...comment(node.note, indent), ...item(node.on, indent)];
  if (!isNested(node)) return [`${indent}- ${inline(node)}`];
  const lines = block(node, `${indent}  `);
  // The dash takes the place of the first field's indent; comments and conditions before it would lose it.
  const [first = '', ...rest] = lines;
  if (!first.startsWith(`${indent}  `) || first.trimStart().startsWith('#'))
    throw new TypeError(`an item cannot begin with ${first.trim()}`);
  return [`${indent}- ${first.slice(indent.length + 2)}`, ...rest];
}

function isObject(node: Tree): node is Exclude<Tree, Scalar | readonly Tree[]> {
  return typeof node === 'object' && node !== null && !Array.isArray(node);
}

/** Characters of a list of texts on one line. */
const longestList = 100;

/** Whether it takes lines of its own. */
function isNested(node: Tree): boolean {
  if (isObject(node)) return 'fields' in node && Object.keys(node.fields).length > 0;
  if (!Array.isArray(node)) return false;
  const texts = node.filter((each) => typeof each === 'string');
  return texts.length < node.length || texts.join(', ').length > longestList;
}

function inline(node: Tree): string {
  if (typeof node !== 'object' || node === null) {
    return stringify(node, { lineWidth: 0, defaultStringType: 'PLAIN' }).trimEnd();
  }
  if (Array.isArray(node)) return `[${(node as readonly Tree[]).map(flow).join(', ')}]`;
  if ('place' in node) return `{{ toJson .${node.place}.${node.path} }}`;
  if ('sha256' in node) return `{{ toJson .${node.sha256.place}.${node.sha256.path} | sha256sum }}`;
  if ('before' in node) return `${node.before}{{ .${node.value.place}.${node.value.path} }}`;
  if ('fields' in node && Object.keys(node.fields).length === 0) return '{}';
  throw new TypeError(`no one-line form of ${JSON.stringify(node)}`);
}

/** Inside brackets commas and brackets end a plain text. */
function flow(node: Tree): string {
  return typeof node === 'string' && /[,[\]{}]/.test(node) ? JSON.stringify(node) : inline(node);
}

function comment(text: string, indent: string): string[] {
  return text.split('\n').map((line) => `${indent}#${line === '' ? '' : ` ${line}`}`);
}

function conditionally({ when: condition }: Conditional, lines: string[]): string[] {
  const value = `.${condition.value.place}.${condition.value.path}`;
  const holding = condition.is === undefined ? value : `eq ${value} ${JSON.stringify(condition.is)}`;
  return [`{{- if ${holding} }}`, ...lines, '{{- end }}'];
}
