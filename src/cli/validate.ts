import { Command } from 'commander';
import { InputError, show } from '../base/errors.ts';
import type { Event } from '../datastore/store.ts';
import { keyText } from '../datastore/store.ts';
import { poolMode } from '../felix/calc/tunnels.ts';
import { endpointWishes } from '../model/bandwidth.ts';
import { type HostEndpoint, type IpPool, isKind, resourceProblems, type WorkloadEndpoint } from '../model/kinds.ts';
import { isKubernetesObject, kubernetesProblems } from '../model/kubernetes.ts';
import { compilePolicy, compileProfile } from '../policy/compile.ts';
import { effectiveLabels, endpointOf, hostEndpointOf } from '../policy/endpoint.ts';
import type { AnyPolicy } from '../policy/scope.ts';
import { isStaged, type StagedPolicy, unstaged } from '../policy/staged.ts';
import { builtInTiers } from '../policy/tiers.ts';
import { ruleWarnings } from '../policy/warnings.ts';
import { readInput } from './apply.ts';
import { eventOf } from './cluster-objects.ts';
import { fieldOf, type Manifest, manifestOf, type RawObject, readObjects } from './documents.ts';
import { ExitError, exitCode } from './exit.ts';
import { asUsage, several } from './explain.ts';
import { parseFormat, print } from './output.ts';

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

/** Everything to be said about the files, in their order. Pure. @throws InputError for a file that is too large */
export function validate(
  files: readonly { readonly file: string; readonly text: string }[],
  namespace: string,
): Finding[] {
  const errors: Finding[] = [];
  const sound: Sound[] = [];
  for (const { file, text } of files) {
    const { objects, faults } = readObjects(text, file);
    for (const fault of faults) errors.push(ofFault(fault, file));
    for (const raw of objects) {
      const problems = problemsOf(raw, namespace);
      if (!('key' in problems)) errors.push(...problems.map((problem) => errorAt(problem, file, raw)));
      else sound.push({ file, raw, manifest: problems });
    }
  }
  return [...errors, ...warningsOf(sound)];
}

interface Sound {
  readonly file: string;
  readonly raw: RawObject;
  readonly manifest: Manifest;
}

/** All problems of an object, or what it is when there are none. */
function problemsOf({ value }: RawObject, namespace: string): Manifest | readonly InputError[] {
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
        ? resourceProblems(kind, value)
        : [];
    return all.length > 0 ? all : [thrown];
  }
}

function compiledProblems({ key, value }: Manifest): readonly InputError[] {
  switch (key.type) {
    case 'NetworkPolicy':
    case 'GlobalNetworkPolicy':
      return compilePolicy(value as AnyPolicy, () => true).problems;
    case 'StagedNetworkPolicy':
    case 'StagedGlobalNetworkPolicy':
    case 'StagedKubernetesNetworkPolicy':
      return compilePolicy(unstaged(value as StagedPolicy), () => true).problems;
    case 'Profile':
      return compileProfile(value as Parameters<typeof compileProfile>[0]).problems;
    case 'IPPool':
      return refusals(() => poolMode(`IPPool(${key.name})`, value as IpPool));
    case 'WorkloadEndpoint':
      return refusals(() => endpointWishes(value as WorkloadEndpoint));
    default:
      return [];
  }
}

/** What only the dataplane's reading of annotations finds. */
function refusals(read: () => unknown): InputError[] {
  try {
    read();
    return [];
  } catch (thrown) {
    if (thrown instanceof InputError) return [thrown];
    throw thrown;
  }
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

function warningsOf(sound: readonly Sound[]): Finding[] {
  const cluster = sound.map(({ manifest }) => eventOf(manifest));
  const labels = labelsOf(cluster);
  const tiers = new Map<string, boolean>(
    [...builtInTiers].map(([name, tier]) => [name, tier.defaultAction === 'deny']),
  );
  for (const { manifest } of sound)
    if (manifest.key.type === 'Tier') {
      const { spec } = manifest.value as { spec: { defaultAction: string } };
      if (!tiers.has(manifest.key.name)) tiers.set(manifest.key.name, spec.defaultAction === 'Deny');
    }
  return sound.flatMap(({ file, raw, manifest: { key, value } }) => {
    const staged = isStaged(key);
    if (!staged && key.type !== 'NetworkPolicy' && key.type !== 'GlobalNetworkPolicy') return [];
    if (staged && (value as StagedPolicy).spec.stagedAction === 'Delete') return [];
    const warn = (field: string, expected: string): Finding => {
      return { severity: 'warning', file, line: raw.lineOf(field), field, expected };
    };
    const policy = staged ? unstaged(value as StagedPolicy) : (value as AnyPolicy);
    const kubernetes = isKubernetesObject(raw.value) || key.type === 'StagedKubernetesNetworkPolicy';
    const allowsOnly = kubernetes && key.type !== 'GlobalNetworkPolicy';
    const subject = !kubernetes ? 'spec.selector' : allowsOnly ? 'spec.podSelector' : 'spec.subject';
    const { selector, rules, tier } = compilePolicy(policy, () => true);
    const selects = labels.length === 0 || labels.some((each) => selector.matches(each));
    return [
      ...(selects ? [] : [warn(subject, 'selects none of the pods in the files')]),
      ...(tiers.has(tier)
        ? []
        : [warn('spec.tier', `tier ${tier} is not in the files; until it exists, what this selects is isolated`)]),
      // The rules of a Kubernetes NetworkPolicy only allow, and any of them may; none can stand in another's way.
      ...(allowsOnly ? [] : ruleWarnings(rules, tiers.get(tier) ?? true)).map(({ field, problem }) =>
        warn(`spec.${field}`, problem),
      ),
    ];
  });
}

/** The labels of every pod, with those of its namespace and service account, and of every host endpoint. */
function labelsOf(cluster: readonly Event[]) {
  const inherited = new Map<string, ReadonlyMap<string, string>>();
  for (const event of cluster)
    if (event.op === 'set' && event.entry.key.type === 'Profile') {
      const { spec } = event.entry.value as { spec: { labelsToApply?: Record<string, string> } };
      inherited.set(event.entry.key.name, new Map(Object.entries(spec.labelsToApply ?? {})));
    }
  return cluster.flatMap((event) => {
    if (event.op !== 'set') return [];
    const { key, value } = event.entry;
    const endpoint =
      key.type === 'WorkloadEndpoint'
        ? endpointOf(keyText(key), value as WorkloadEndpoint)
        : key.type === 'HostEndpoint'
          ? hostEndpointOf(keyText(key), value as HostEndpoint)
          : undefined;
    return endpoint ? [effectiveLabels(endpoint, (profile) => inherited.get(profile))] : [];
  });
}
