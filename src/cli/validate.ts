import { Command } from 'commander';
import { type InputError, show } from '../base/errors.ts';
import { readInput } from './apply.ts';
import { fieldOf, type RawObject, readObjects } from './documents.ts';
import { ExitError, exitCode } from './exit.ts';
import { asUsage, several } from './explain.ts';
import { parseFormat, print } from './output.ts';
import { problemsOf } from './problems.ts';
import { type Sound, type Surprise, surprises } from './surprises.ts';

/** Most problems of one object that are listed. */
const mostTold = 1000;

/** One thing that is wrong (`error`) or surprising (`warning`) in a file. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly field: string;
  /** The offending value, shortened; only of errors. */
  readonly found?: string;
  /** What would have been accepted; of a warning, what is surprising. */
  readonly expected: string;
}

/** `margayctl validate`: exit 0 no errors, 1 errors, 2 a file that cannot be read. */
export function validateCommand(): Command {
  return new Command('validate')
    .description('every problem in files, with its place, and what is legal but surprising')
    .requiredOption('-f, --filename <file>', 'a file, or - for standard input; may be given several times', several)
    .option('-n, --namespace <namespace>', 'for objects that name none', 'default')
    .option('-o, --output <format>', 'json or yaml instead of lines')
    .action((options: { filename: readonly string[]; namespace: string; output?: string }) =>
      asUsage(async () => {
        const format = parseFormat(options.output);
        const texts = await Promise.all(options.filename.map(async (file) => ({ file, text: await readInput(file) })));
        const findings = validate(texts, options.namespace);
        print(format, findings, () => findings.map(lineText).join(''));
        if (findings.some(({ severity }) => severity === 'error')) throw new ExitError(exitCode.failure, '');
      }),
    );
}

function lineText({ severity, file, line, field, found, expected }: Finding): string {
  const what = found === undefined ? expected : `${found}: expected ${expected}`;
  return `${file}:${line}: ${severity}: ${field}: ${what}\n`;
}

/** Everything to be said about the files, in the order of their lines. Pure. @throws InputError for a file that is too large */
export function validate(
  files: readonly { readonly file: string; readonly text: string }[],
  namespace: string,
): Finding[] {
  const found: Finding[] = [];
  const sound: Sound[] = [];
  for (const { file, text } of files) {
    const { objects, faults } = readObjects(text, file);
    for (const fault of faults) found.push(ofFault(fault, file));
    for (const raw of objects) {
      const problems = problemsOf(raw.value, namespace);
      if (!('key' in problems)) found.push(...errorsOf(problems, file, raw));
      else sound.push({ file, raw, manifest: problems });
    }
  }
  const order = new Map(files.map(({ file }, at) => [file, at]));
  const place = ({ file }: Finding) => order.get(file) ?? 0;
  return [...found, ...surprises(sound).map(ofSurprise)].toSorted((a, b) => place(a) - place(b) || a.line - b.line);
}

/** Problems with their places, the first ones of very many. */
function errorsOf(problems: readonly InputError[], file: string, raw: RawObject): Finding[] {
  const told = problems.slice(0, mostTold).map((problem) => errorAt(problem, file, raw));
  const more = problems.length - told.length;
  if (more === 0) return told;
  const rest = { field: 'document', found: `${more} problems more`, expected: `at most ${mostTold} to be listed` };
  return [...told, { severity: 'error', file, line: raw.line, ...rest }];
}

function errorAt(error: InputError, file: string, raw: RawObject): Finding {
  const field = fieldOf(error);
  const { expected } = error;
  return { severity: 'error', file, line: raw.lineOf(field), field, found: show(error.value), expected };
}

/** A fault of the YAML names file and line as its field. */
function ofFault({ field, value, expected }: InputError, file: string): Finding {
  const line = Number(/:(\d+)(?::|$)/.exec(field.slice(file.length))?.[1] ?? 1);
  return { severity: 'error', file, line, field: 'document', found: show(value), expected };
}

function ofSurprise({ file, line, field, problem }: Surprise): Finding {
  return { severity: 'warning', file, line, field, expected: problem };
}
