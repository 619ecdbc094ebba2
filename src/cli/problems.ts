import { InputError } from '../base/errors.ts';
import { isKind, resourceProblems } from '../model/kinds.ts';
import { isKubernetesObject, kubernetesProblems } from '../model/kubernetes.ts';
import { compiledProblems } from './compiled.ts';
import { fieldOf, type Manifest, manifestOf, stepsOf } from './documents.ts';
import { strangeFields } from './strange-fields.ts';

/*
 * All that is wrong with one object. Schema and compiler each end at what they cannot read, so what they have named is
 * put right by something neutral and the object read again, until nothing more is found.
 */

/** Readings of one object; each finds at least one problem more. */
const mostReadings = 20;
/** Of an object with so many problems the hidden ones are left for the next time. */
const enoughProblems = 1000;

/** The problems of an object, each field once, or what it is when there are none. */
export function problemsOf(value: unknown, namespace: string): Manifest | readonly InputError[] {
  const first = reading(value, namespace);
  if ('key' in first) return first;
  const found = new Map(first.map((problem) => [fieldOf(problem), problem]));
  let rest = value;
  let fresh = first;
  for (let count = 1; count < mostReadings && fresh.length > 0 && found.size < enoughProblems; count++) {
    rest = fresh.reduce((object, problem) => mended(object, stepsOf(fieldOf(problem))), structuredClone(rest));
    const next = reading(rest, namespace);
    fresh = 'key' in next ? [] : next.filter((problem) => !found.has(fieldOf(problem)));
    for (const problem of fresh) found.set(fieldOf(problem), problem);
  }
  return [...found.values()];
}

/** What one reading finds: the problems, or what it is when there are none. */
function reading(value: unknown, namespace: string): Manifest | readonly InputError[] {
  try {
    const manifest = manifestOf(value, '', namespace);
    const problems = compiledProblems(manifest);
    return problems.length > 0 ? problems : manifest;
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    const kind = (value as { kind?: unknown } | null)?.kind;
    const all = isKubernetesObject(value)
      ? kubernetesProblems(value)
      : isKind(kind)
        ? [...resourceProblems(kind, value), ...strangeFields(kind, value).refused]
        : [];
    return all.length > 0 ? all : [thrown];
  }
}

type Steps = readonly (string | number)[];

/** Fields of a rule that say by turns what the others may be: with one of them wrong, nothing can be said of these. */
const transport = ['protocol', 'notProtocol', 'ipVersion', 'icmp', 'notICMP'];
const transportOfEnd = ['ports', 'notPorts'];

/**
 * The object without the fault at a place. What stands in a list keeps its place; a fault that cannot be taken out
 * stays. Changes the object.
 */
function mended(object: unknown, steps: Steps): unknown {
  const rule = steps.findIndex((step, at) => (step === 'ingress' || step === 'egress') && steps[at + 1] !== undefined);
  if (rule >= 0 && transport.includes(String(steps[rule + 2]))) withoutTransport(object, steps.slice(0, rule + 2));
  else if (steps.at(-1) === 'action') put(object, steps, 'Allow');
  else if (typeof steps.at(-1) === 'number' && /nets$/i.test(String(steps.at(-2)))) put(object, steps, '0.0.0.0/0');
  else put(object, typeof steps.at(-1) === 'number' ? steps.slice(0, -1) : steps, undefined);
  return object;
}

function withoutTransport(object: unknown, rule: Steps): void {
  for (const field of transport) put(object, [...rule, field], undefined);
  for (const end of ['source', 'destination'])
    for (const field of transportOfEnd) put(object, [...rule, end, field], undefined);
}

/** Sets a field that is there, or takes it out. */
function put(object: unknown, steps: Steps, value: unknown): void {
  const holder = steps.slice(0, -1).reduce<unknown>((at, step) => memberOf(at, step), object);
  const last = steps.at(-1);
  if (last === undefined || typeof holder !== 'object' || holder === null || !Object.hasOwn(holder, last)) return;
  if (value === undefined) Reflect.deleteProperty(holder, last);
  else Reflect.set(holder, last, value);
}

function memberOf(object: unknown, step: string | number): unknown {
  return typeof object === 'object' && object !== null && Object.hasOwn(object, step)
    ? (object as Record<string | number, unknown>)[step]
    : undefined;
}
