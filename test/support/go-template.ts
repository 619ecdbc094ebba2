import { createHash } from 'node:crypto';

/*
 * As much of Go's text/template, with Helm's functions, as the chart takes: values below .Values and .Release, `toJson`,
 * `sha256sum`, and `if` with `eq` or alone. Anything else is an error, so that a template cannot mean more in helm.
 */

export type Context = Readonly<Record<string, unknown>>;

const action = /\{\{(-?) *(.*?) *\}\}/g;
const path = String.raw`(\.(?:Values|Release)(?:\.\w+)+)`;
const forms = {
  equal: new RegExp(`^if eq ${path} ("[^"]*")$`),
  present: new RegExp(`^if ${path}$`),
  digest: new RegExp(`^toJson ${path} \\| sha256sum$`),
  json: new RegExp(`^toJson ${path}$`),
  plain: new RegExp(`^${path}$`),
};

/** @throws Error for an action that it does not know, a value that there is not, or an `if` without its `end` */
export function render(template: string, context: Context): string {
  let out = '';
  let at = 0;
  const open: boolean[] = [];
  const write = (text: string) => {
    if (!open.includes(false)) out += text;
  };
  for (const { 0: all, 1: trim, 2: body = '', index } of template.matchAll(action)) {
    const before = template.slice(at, index);
    write(trim === '-' ? before.trimEnd() : before);
    at = index + all.length;
    if (body === 'end') {
      if (open.pop() === undefined) throw new Error('end without if');
    } else if (body.startsWith('if ')) open.push(condition(body, context));
    else write(output(body, context));
  }
  if (open.length > 0) throw new Error('if without end');
  write(template.slice(at));
  return out;
}

function condition(body: string, context: Context): boolean {
  const [, left, right] = forms.equal.exec(body) ?? [];
  if (left !== undefined && right !== undefined) return valueAt(left, context) === JSON.parse(right);
  const [, only] = forms.present.exec(body) ?? [];
  if (only === undefined) throw new Error(`unknown action: ${body}`);
  const value = valueAt(only, context);
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

function output(body: string, context: Context): string {
  const found = (form: RegExp) => form.exec(body)?.[1];
  const digested = found(forms.digest);
  if (digested !== undefined)
    return createHash('sha256')
      .update(JSON.stringify(valueAt(digested, context)))
      .digest('hex');
  const json = found(forms.json);
  if (json !== undefined) return JSON.stringify(valueAt(json, context));
  const plain = found(forms.plain);
  if (plain === undefined) throw new Error(`unknown action: ${body}`);
  return String(valueAt(plain, context));
}

function valueAt(dotted: string, context: Context): unknown {
  const value = dotted
    .slice(1)
    .split('.')
    .reduce<unknown>((at, name) => (at as Context | undefined)?.[name], context);
  if (value === undefined) throw new Error(`${dotted}: no value`);
  return value;
}
