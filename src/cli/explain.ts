import { Command } from 'commander';
import { explain, InputError } from '../base/errors.ts';
import type { AnyProbedAnswer } from '../felix/explain/probe.ts';
import type { AnyLiveAnswer } from '../felix/explain/view.ts';
import { type AnyQuestion, parseDestination, parseEnd } from '../policy/ends.ts';
import { ask, tell } from './control.ts';
import { runDir } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { anyPage } from './explain-service-page.ts';
import { type Format, parseFormat, print } from './output.ts';

interface Options {
  readonly filename?: readonly string[];
  readonly namespace: string;
  readonly family?: string;
  readonly output?: string;
  readonly packet?: boolean;
}

/** Answers without an agent, from files or the datastore, and prints what it found. */
export type Offline = (
  question: AnyQuestion,
  files: readonly string[] | undefined,
  namespace: string,
  format: Format,
) => Promise<void>;

/**
 * `margayctl explain`: exit 0 allowed, 1 denied (by one endpoint of a service at least), 2 a question that has no
 * answer, 3 no datastore; with `--packet` 1 when the packet met something else.
 */
export function explainCommand(offline: Offline): Command {
  return new Command('explain')
    .description('whether policy lets a connection pass at both of its ends, and which rule decides')
    .argument('<from>', 'POD, NAMESPACE/POD, host:NODE or an address')
    .argument('<to>', 'POD:PORT, POD:PORT/udp, POD:icmp; also with NAMESPACE/POD, svc:SERVICE, host:NODE or an address')
    .option(
      '-f, --filename <file>',
      'objects from a file instead of the datastore; may be given several times',
      several,
    )
    .option('-n, --namespace <namespace>', 'of pods and objects that name none', 'default')
    .option('--family <family>', '4 or 6, where both ends have both')
    .option('--packet', "send a real packet from the pod's namespace or the node, and compare; on that node")
    .option('-o, --output <format>', 'json or yaml instead of a page')
    .action((from: string, to: string, options: Options) =>
      asUsage(() => explainConnection(from, to, options, offline)),
    );
}

async function explainConnection(from: string, to: string, options: Options, offline: Offline): Promise<void> {
  const { filename, namespace, family, packet } = options;
  const format = parseFormat(options.output);
  const source = parseEnd(from, namespace, 'FROM');
  const destination = parseDestination(to, namespace, 'TO');
  if (family !== undefined && family !== '4' && family !== '6') throw new InputError('--family', family, '4 or 6');
  const question: AnyQuestion = {
    source,
    ...destination,
    ...(family && { family: family === '4' ? (4 as const) : (6 as const) }),
  };
  if (packet && filename) throw new InputError('--packet', 'with -f', 'an agent, which sends it');
  const query = new URLSearchParams({ from, to, namespace, ...(family && { family }) });
  if (packet) return probeConnection(query, format);
  const found = filename ? undefined : await askAgent(query);
  if (!found) return offline(question, filename, namespace, format);
  print(format, found, () => anyPage(found));
  if (found.verdict !== 'allow') throw new ExitError(exitCode.failure, '');
}

async function probeConnection(query: URLSearchParams, format: Format): Promise<void> {
  const found = (await answered(() => tell(runDir(process.env), 'felix', `/v1/probe?${query}`, {}))) as AnyProbedAnswer;
  print(format, found, () => anyPage(found));
  if (found.probe.agrees === false) throw new ExitError(exitCode.failure, '');
}

/** This node's agent, which knows the cluster and the kernel; undefined where there is none. */
async function askAgent(query: URLSearchParams): Promise<AnyLiveAnswer | undefined> {
  try {
    return (await answered(() => ask(runDir(process.env), 'felix', `/v1/explain?${query}`))) as AnyLiveAnswer;
  } catch (thrown) {
    if (thrown instanceof ExitError && thrown.code === exitCode.unreachable) return undefined;
    throw thrown;
  }
}

/** What the agent refuses is a question without an answer. */
async function answered(question: () => Promise<unknown>): Promise<unknown> {
  try {
    return await question();
  } catch (thrown) {
    if (!(thrown instanceof ExitError) || thrown.code !== exitCode.failure) throw thrown;
    throw new ExitError(exitCode.usage, thrown.message, { cause: thrown });
  }
}

/** Runs a command of `margayctl`, where exit code 1 is an answer, so that wrong input ends with the usage code. */
export async function asUsage(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (thrown) {
    if (thrown instanceof InputError) throw new ExitError(exitCode.usage, explain(thrown), { cause: thrown });
    throw thrown;
  }
}

/** Collects the values of an option that may be given several times. */
export function several(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
