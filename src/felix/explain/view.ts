import { EnvironmentError, InputError } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import type { CountedRule } from '../../kernel/iptables/counters.ts';
import type { TableName } from '../../kernel/types.ts';
import { type Family, familyOf } from '../../model/address.ts';
import { type AnyQuestion, parseDestination, parseEnd, type Question } from '../../policy/ends.ts';
import type { NodePolicy } from '../../policy/ir.ts';
import type { HostStep } from '../../policy/path.ts';
import { type Answer, answer, type Side } from '../../policy/question.ts';
import { decidingHostLines } from '../../policy/render/host-lines.ts';
import { decidingLines } from '../../policy/render/lines.ts';
import { questionsOf, resolveService, type ServiceAnswer, summarised } from '../../policy/service-question.ts';
import type { View } from '../control.ts';
import { type LiveLine, liveLine } from './live.ts';
import type { ClusterMirror } from './mirror.ts';

/** An answer with the rules in this node's kernel that made it, for the ends and host endpoints that are on this node. */
export interface LiveAnswer extends Answer {
  readonly live: {
    readonly node: string;
    readonly source?: LiveLine;
    readonly destination?: LiveLine;
    /** Of `hosts`, in their order; without those that no rule of policy decides. */
    readonly hosts?: readonly LiveHostLine[];
  };
}

export interface LiveHostLine extends LiveLine {
  readonly hostEndpoint: string;
  readonly direction: HostStep['direction'];
  readonly table: TableName;
}

export type LiveServiceAnswer = ServiceAnswer<LiveAnswer>;
export type AnyLiveAnswer = LiveAnswer | LiveServiceAnswer;

export interface ExplainOptions {
  readonly node: string;
  readonly mirror: ClusterMirror;
  /** This node's. */
  readonly policy: () => NodePolicy;
  /** The rules of a chain. */
  readonly rulesOf: (chain: string, family: Family, table: TableName) => Promise<readonly CountedRule[]>;
}

/** `GET /v1/explain?from=&to=&namespace=&family=`, in the words of `margayctl explain`. */
export function explainView(options: ExplainOptions): View {
  return (query) => explainLive(options, parseQuestion(query));
}

/** @throws InputError naming the parameter */
export function parseQuestion(query: URLSearchParams): AnyQuestion {
  const namespace = query.get('namespace') ?? 'default';
  const family = query.get('family');
  if (family !== null && family !== '4' && family !== '6') throw new InputError('family', family, '4 or 6');
  return {
    source: parseEnd(query.get('from') ?? '', namespace, 'FROM'),
    ...parseDestination(query.get('to') ?? '', namespace, 'TO'),
    ...(family && { family: family === '4' ? (4 as const) : (6 as const) }),
  };
}

/** @throws InputError for a question without an answer, EnvironmentError before the datastore was read, IptablesError */
export async function explainLive(options: ExplainOptions, question: AnyQuestion): Promise<AnyLiveAnswer> {
  const { mirror } = options;
  if (!mirror.complete) throw new EnvironmentError('the datastore has not been read yet', 'ask again in a moment');
  const target = resolveService(mirror.about(question.source, question.destination), question);
  const once = { ...options, rulesOf: remembered(options.rulesOf) };
  if (!target) return explainOne(once, question as Question);
  const answers: LiveAnswer[] = [];
  // One after another: each is a listing of chains at most.
  for (const each of questionsOf(target, question)) answers.push(await explainOne(once, each));
  return summarised(target, answers);
}

async function explainOne(options: ExplainOptions, question: Question): Promise<LiveAnswer> {
  const { node, mirror, policy, rulesOf } = options;
  const found = answer(mirror.about(question.source, question.destination), question, createLog('explain', 'silent'));
  const family = familyOf(found.source.address);
  const lineAt = async ({ trace, node: where, key }: Side) => {
    const lines =
      trace && key !== undefined && where === node ? decidingLines(policy(), key, family, trace) : undefined;
    return lines && liveLine(lines, await rulesOf(lines.chain, family, 'filter'));
  };
  const atHost = async (step: HostStep): Promise<LiveHostLine[]> => {
    const lines = step.node === node ? decidingHostLines(policy(), family, step) : undefined;
    if (!lines) return [];
    const { table } = lines;
    const line = liveLine(lines, await rulesOf(lines.chain, family, table));
    return [{ hostEndpoint: step.hostEndpoint, direction: step.direction, table, ...line }];
  };
  const [source, destination] = await Promise.all([lineAt(found.source), lineAt(found.destination)]);
  const hosts = (await Promise.all(found.hosts.map(atHost))).flat();
  return {
    ...found,
    live: { node, ...(source && { source }), ...(destination && { destination }), ...(hosts.length > 0 && { hosts }) },
  };
}

/** Chains that several answers go by are read once. */
function remembered(rulesOf: ExplainOptions['rulesOf']): ExplainOptions['rulesOf'] {
  const known = new Map<string, ReturnType<ExplainOptions['rulesOf']>>();
  return (chain, family, table) => {
    const key = `${table} ${family} ${chain}`;
    const found = known.get(key) ?? rulesOf(chain, family, table);
    known.set(key, found);
    return found;
  };
}
