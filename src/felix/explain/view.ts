import { EnvironmentError, InputError } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import type { CountedRule } from '../../kernel/iptables/counters.ts';
import { type Family, familyOf } from '../../model/address.ts';
import type { NodePolicy } from '../../policy/ir.ts';
import { type Answer, answer, parseEnd, parseTarget, type Question, type Side } from '../../policy/question.ts';
import { decidingLines } from '../../policy/render/lines.ts';
import type { View } from '../control.ts';
import { type LiveLine, liveLine } from './live.ts';
import type { ClusterMirror } from './mirror.ts';

/** An answer with the rules in this node's kernel that made it, for the ends that are on this node. */
export interface LiveAnswer extends Answer {
  readonly live: { readonly node: string; readonly source?: LiveLine; readonly destination?: LiveLine };
}

export interface ExplainOptions {
  readonly node: string;
  readonly mirror: ClusterMirror;
  /** This node's. */
  readonly policy: () => NodePolicy;
  /** The rules of a chain of the filter table. */
  readonly rulesOf: (chain: string, family: Family) => Promise<readonly CountedRule[]>;
}

/** `GET /v1/explain?from=&to=&namespace=&family=`, in the words of `margayctl explain`. */
export function explainView(options: ExplainOptions): View {
  return (query) => explainLive(options, parseQuestion(query));
}

/** @throws InputError naming the parameter */
export function parseQuestion(query: URLSearchParams): Question {
  const namespace = query.get('namespace') ?? 'default';
  const family = query.get('family');
  if (family !== null && family !== '4' && family !== '6') throw new InputError('family', family, '4 or 6');
  const { party, transport } = parseTarget(query.get('to') ?? '', namespace, 'TO');
  return {
    source: parseEnd(query.get('from') ?? '', namespace, 'FROM'),
    destination: party,
    transport,
    ...(family && { family: family === '4' ? (4 as const) : (6 as const) }),
  };
}

/** @throws InputError for a question without an answer, EnvironmentError before the datastore was read, IptablesError */
export async function explainLive(options: ExplainOptions, question: Question): Promise<LiveAnswer> {
  const { node, mirror, policy, rulesOf } = options;
  if (!mirror.complete) throw new EnvironmentError('the datastore has not been read yet', 'ask again in a moment');
  const found = answer(mirror.about(question.source, question.destination), question, createLog('explain', 'silent'));
  const family = familyOf(found.source.address);
  const linesAt = ({ trace, node: where, key }: Side) =>
    trace && key !== undefined && where === node ? decidingLines(policy(), key, family, trace) : undefined;
  const lineAt = async (side: Side) => {
    const lines = linesAt(side);
    return lines && liveLine(lines, await rulesOf(lines.chain, family));
  };
  const [source, destination] = await Promise.all([lineAt(found.source), lineAt(found.destination)]);
  return { ...found, live: { node, ...(source && { source }), ...(destination && { destination }) } };
}
