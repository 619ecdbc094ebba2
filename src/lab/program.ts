import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { EnvironmentError, errorCode, InputError } from '../base/errors.ts';
import { ExitError, exitCode } from '../cli/exit.ts';
import { checkLab } from '../cli/preflight.ts';
import { findMachine, runInside } from './checks.ts';
import { claimState, nodeEnvironment, planFile, programs } from './cluster.ts';
import { type Removed, takeDown } from './down.ts';
import { interruption } from './interrupt.ts';
import {
  checkName,
  checkOptions,
  type EncapChoice,
  encapChoices,
  type FamilyChoice,
  familyChoices,
  type LabPlan,
  planLab,
  type TorKind,
  torKinds,
} from './plan.ts';
import { Progress, seconds } from './progress.ts';
import { hints } from './show.ts';
import { abandonedLabs, markPassing, standingLabs } from './standing.ts';
import { tellStory } from './story.ts';

interface Given {
  readonly name?: string;
  readonly nodes: number;
  readonly pods: number;
  readonly family: FamilyChoice;
  readonly tor: TorKind;
  readonly encap: EncapChoice;
  readonly once?: boolean;
  readonly down?: boolean;
}

/** `npm run lab`: bring a lab up or down, and reach into one that stands. */
export function labProgram(): Command {
  const program = new Command('npm run lab --')
    .description('a cluster of network namespaces on this machine')
    .option('--name <name>', 'name of the lab (default: lab)')
    .option('--nodes <count>', 'nodes', countOf('--nodes'), 3)
    .option('--pods <count>', 'pods per node', countOf('--pods'), 2)
    .addOption(new Option('--family <families>', 'address families').choices(familyChoices).default('v4'))
    .addOption(new Option('--tor <kind>', 'top-of-rack router').choices(torKinds).default('bird'))
    .addOption(
      new Option('--encap <kind>', 'between nodes; VXLAN without a ToR runs no BGP')
        .choices(encapChoices)
        .default('none'),
    )
    .option('--once', 'bring up, check every expectation, take down; fails when an expectation does')
    .option('--down', 'remove every trace of the lab, also after a crash')
    .enablePositionalOptions()
    .action((options: Given) => lab(options));
  program
    .command('ctl')
    .description('margayctl on a node of the lab')
    .option('--node <node>', 'the node (default: n1); may stand anywhere after ctl')
    .argument('[args...]', 'arguments of margayctl')
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .action((args: string[], options: { node?: string }) => control(program.opts<Given>().name, args, options.node));
  program
    .command('exec')
    .description('a command on a machine of the lab: n1, tor, legacy, etcd, or a pod such as shop/web-1')
    .argument('<machine>')
    .argument('<command...>')
    .passThroughOptions()
    .action((machine: string, words: string[]) => inside(program.opts<Given>().name, machine, words));
  return program;
}

/** @throws InputError for what is no number; its size is checked with the other options */
function countOf(option: string): (text: string) => number {
  return (text) => {
    if (!/^-?\d+(\.\d+)?$/.test(text)) throw new InputError(option, text, 'a number');
    return Number(text);
  };
}

async function lab(given: Given): Promise<void> {
  checkLab();
  if (given.down) return down(given.name);
  const name = given.name ?? (given.once ? uniqueName() : 'lab');
  const plan = planLab(
    checkOptions({
      name,
      nodes: given.nodes,
      pods: given.pods,
      family: given.family,
      tor: given.tor,
      encap: given.encap,
    }),
  );
  const stop = interruption();
  const progress = new Progress();
  claimState(plan);
  if (given.once) markPassing(plan.stateDir);
  try {
    await tellStory(plan, progress, stop);
    stop.throwIfAborted();
  } catch (thrown) {
    await takeDown(name);
    throw stop.aborted ? stop.reason : thrown;
  }
  if (given.once) await finishOnce(name, progress);
  else finish(plan, progress);
}

async function finishOnce(name: string, progress: Progress): Promise<void> {
  await takeDown(name);
  const total = progress.results.length;
  progress.line('');
  progress.line(
    `${total - progress.failed} of ${total} expectations hold; everything is removed again (${seconds(progress.seconds * 1000).trim()})`,
  );
  if (progress.failed > 0) throw new ExitError(exitCode.failure, `${progress.failed} of ${total} expectations failed`);
}

function finish(plan: LabPlan, progress: Progress): void {
  progress.heading(`The lab is up and stays (${seconds(progress.seconds * 1000).trim()} in all). Try:`);
  for (const line of hints(plan)) progress.line(`  ${line}`);
  if (progress.failed > 0)
    throw new ExitError(exitCode.failure, `${progress.failed} expectations failed; the lab is left up for a look`);
}

/** Without a name the lab that has none of its own, and what killed runs of `--once` left behind under names of theirs. */
async function down(given: string | undefined): Promise<void> {
  const names = given === undefined ? ['lab', ...abandonedLabs()] : [checkName(given)];
  for (const name of names) process.stdout.write(removedText(name, await takeDown(name)));
  for (const other of given === undefined ? standingLabs() : [])
    process.stdout.write(`Lab "${other}" stands; remove it with: npm run lab -- --down --name ${other}\n`);
}

function removedText(name: string, { processes, namespaces, directory }: Removed): string {
  const nothing = processes + namespaces === 0 && !directory;
  if (nothing) return `There is no lab "${name}".\n`;
  return `Removed ${processes} processes, ${namespaces} namespaces and the files of lab "${name}".\n`;
}

/** `margayctl` on a node; `--node` may stand among its arguments. */
async function control(lab: string | undefined, args: readonly string[], chosen: string | undefined): Promise<void> {
  checkLab();
  const at = args.indexOf('--node');
  const name = chosen ?? (at >= 0 ? (args[at + 1] ?? '') : 'n1');
  const rest = at >= 0 ? args.toSpliced(at, 2) : args;
  const plan = readPlan(lab);
  const node = plan.nodes.find((candidate) => candidate.name === name);
  if (!node) throw new InputError('--node', name, `one of ${plan.nodes.map((candidate) => candidate.name).join(', ')}`);
  const words = [process.execPath, `${programs}/margayctl.js`, ...rest];
  process.exitCode = await runInside(node.netns, words, nodeEnvironment(plan, node));
}

async function inside(lab: string | undefined, name: string, given: readonly string[]): Promise<void> {
  checkLab();
  const words = given[0] === '--' ? given.slice(1) : given;
  const [program] = words;
  if (program === undefined) throw new InputError('command', program, 'a command, for example: exec n1 -- ip route');
  const plan = readPlan(lab);
  const machine = findMachine(plan, name);
  const known = [...plan.nodes, ...plan.pods, plan.tor, plan.legacy, plan.etcd].flatMap((one) =>
    one ? [one.name] : [],
  );
  if (!machine) throw new InputError('machine', name, `one of ${known.join(', ')}`);
  const node = plan.nodes.find((candidate) => candidate.name === name);
  process.exitCode = await runInside(machine.netns, words, {
    ...process.env,
    ...(node ? nodeEnvironment(plan, node) : {}),
  });
}

/** The plan that a standing lab was made by. */
function readPlan(name = 'lab'): LabPlan {
  try {
    return JSON.parse(readFileSync(planFile(checkName(name)), 'utf8')) as LabPlan;
  } catch (cause) {
    if (errorCode(cause) !== 'ENOENT') throw cause;
    const option = name === 'lab' ? '' : ` -- --name ${name}`;
    throw new EnvironmentError(`there is no lab "${name}"`, `bring it up with: npm run lab${option}`);
  }
}

/** Names no lab that exists or is made at the same time. */
function uniqueName(): string {
  const random = Math.floor(Math.random() * 36 ** 4).toString(36);
  return `o${process.pid.toString(36)}${random}`;
}
