import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import { systemClock } from '../base/clock.ts';
import { errorCode, explain, show } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import { runAlone } from '../bgp/alone.ts';
import { compileStandalone, type StandaloneProblem, type StandaloneSetup } from '../bgp/standalone.ts';
import { logLevel } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { stopSignal } from './supervisor.ts';

/** Most times that anchors may multiply. */
const mostAliases = 100;

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
  const document = parseDocument(textOf(file), { lineCounter: lines, logLevel: 'error' });
  const where = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const [broken] = document.errors;
  if (broken) throw new ExitError(exitCode.failure, `${where(broken.pos[0])}: ${broken.message.split('\n')[0]}`);
  const compiled = compileStandalone(contentOf(document, file), (path) =>
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

function contentOf(document: Document.Parsed, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: mostAliases });
  } catch (cause) {
    throw new ExitError(exitCode.failure, `${file}: aliases multiply without end`, { cause });
  }
}

/** Where the field is, or the nearest thing around it that is there. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
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
