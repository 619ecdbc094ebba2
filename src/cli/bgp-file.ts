import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Document, isMap, isNode, isScalar, LineCounter } from 'yaml';
import { systemClock } from '../base/clock.ts';
import { errorCode, explain, InputError, show } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import { parseDocuments, plainValue, repeatedKeys } from '../base/yaml.ts';
import { runAlone } from '../bgp/alone.ts';
import { compileStandalone, type StandaloneProblem, type StandaloneSetup } from '../bgp/standalone.ts';
import { logLevel } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { stopSignal } from './supervisor.ts';

/** `margay bgp --config FILE [--check]`. SIGHUP reads the file again. @throws ExitError naming line and field */
export async function runBgpFile(file: string, env: NodeJS.ProcessEnv, check: boolean): Promise<void> {
  const setup = readSpeakerFile(file);
  if (check) {
    const { peers, ranges = [] } = setup.config;
    process.stdout.write(`${file}: ${peers.length} neighbors and ${ranges.length} listen ranges, all right\n`);
    return;
  }
  const log = createLog('bgp', logLevel(env));
  const signal = stopSignal(env);
  const reload = new Trigger(systemClock);
  const fire = () => reload.fire();
  process.on('SIGHUP', fire);
  const load = (): StandaloneSetup | undefined => {
    try {
      return readSpeakerFile(file);
    } catch (thrown) {
      if (!(thrown instanceof ExitError)) throw thrown;
      log.error({ file, problems: thrown.message.split('\n') }, 'configuration not understood; the last one stays');
      return undefined;
    }
  };
  try {
    await runAlone({ setup, reload, load, env, log, clock: systemClock, signal });
  } finally {
    process.off('SIGHUP', fire);
  }
}

/**
 * A speaker's file, checked. Password files are found from the directory that it is in.
 * @throws ExitError with a line `file:line: field: value: expected …` for each problem
 */
export function readSpeakerFile(file: string): StandaloneSetup {
  const lines = new LineCounter();
  const document = documentOf(textOf(file), file, lines);
  const where = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const compiled = compileStandalone(contentOf(document, file, lines), (path) =>
    readFileSync(resolve(dirname(file), path), 'utf8'),
  );
  if ('setup' in compiled) return compiled.setup;
  const messages = compiled.problems.map(
    (problem) => `${where(offsetOf(document, problem.path))}: ${describe(problem)}`,
  );
  throw new ExitError(exitCode.failure, messages.join('\n'));
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (thrown) {
    if (errorCode(thrown) === undefined) throw thrown;
    throw new ExitError(exitCode.failure, `--config: ${explain(thrown)}`, { cause: thrown });
  }
}

/** The only document of a text; undefined where there is nothing in it. */
function documentOf(text: string, file: string, lines: LineCounter): Document.Parsed | undefined {
  const [document, second] = heeding(() => parseDocuments(text, file, lines));
  const where = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const [broken] = document?.errors ?? [];
  if (broken) throw new ExitError(exitCode.failure, `${where(broken.pos[0])}: ${broken.message.split('\n')[0]}`);
  if (second) throw new ExitError(exitCode.failure, `${where(second.range[0])}: multiple documents: expected one`);
  return document;
}

function contentOf(document: Document.Parsed | undefined, file: string, lines: LineCounter): unknown {
  if (document === undefined) return null;
  const [twice] = repeatedKeys(document, 1);
  if (twice) {
    const { line } = lines.linePos(twice.offset);
    throw new ExitError(exitCode.failure, `${file}:${line}: ${twice.key}: expected a key that stands once`);
  }
  return heeding(() => plainValue(document, file));
}

/** What is too much for a file ends the command, or the reading of a changed file, as any other fault does. */
function heeding<T>(read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    throw new ExitError(exitCode.failure, thrown.message, { cause: thrown });
  }
}

/** Where the field is, or the nearest thing around it that is there. */
function offsetOf(document: Document.Parsed | undefined, path: readonly PropertyKey[]): number {
  if (document === undefined) return 0;
  for (let length = path.length; length > 0; length--) {
    const key = path[length - 1];
    const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === key);
      if (pair && isScalar(pair.key) && pair.key.range) return pair.key.range[0];
    }
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

function describe({ path, value, expected }: StandaloneProblem): string {
  const field = path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text ? `${text}.${String(step)}` : String(step)),
    '',
  );
  return `${field || 'document'}: ${show(value)}: expected ${expected}`;
}
