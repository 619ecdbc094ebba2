import type { ServerResponse } from 'node:http';
import { InputError } from '../../base/errors.ts';
import { Streamed, type View } from '../control.ts';
import type { DeniedReader } from './denied.ts';
import { type Flow, matchesFlow, parseFlowFilter } from './flow.ts';
import type { FlowLog, FlowLogState } from './log.ts';

/** What `GET /v1/flows` answers; a stream has an event a line instead. */
export interface FlowList extends FlowLogState {
  /** Which verdicts are told, `verdictLogs`. */
  readonly telling: 'denied' | 'all' | 'none';
  /** Denied packets that the kernel did not tell of, for their rules had told of enough, since felix started. */
  readonly untold: number;
  /** The last ones that match, oldest first. */
  readonly flows: readonly Flow[];
}

const usualLimit = 1000;
const mostFollowers = 16;
/** Octets that wait for a slow reader; beyond, flows are left out for it. */
const mostWaiting = 1 << 20;

/**
 * `GET /v1/flows?verdict=&pod=&address=&limit=` as JSON; with `follow=1` a line for each flow that comes, after the last
 * ones, without end: a Flow, or `{"lost":n}` for what the reader was too slow for.
 */
export function flowsView(
  log: FlowLog,
  telling: () => FlowList['telling'],
  denied: Pick<DeniedReader, 'totals'>,
): View {
  return async (query) => {
    const filter = parseFlowFilter(query);
    const matching = (flow: Flow) => matchesFlow(filter, flow);
    const limit = parseLimit(query.get('limit'));
    const last = () => (limit === 0 ? [] : [...log.recent()].filter(matching).slice(-limit));
    if (!query.has('follow')) {
      const untold = (await denied.totals()).reduce((sum, each) => sum + each.untold, 0);
      return { telling: telling(), ...log.state(), untold, flows: last() } satisfies FlowList;
    }
    if (log.followers >= mostFollowers)
      throw new InputError('follow', log.followers, `fewer than ${mostFollowers} that follow at once`);
    return new Streamed((response) => follow(log, response, last(), matching));
  };
}

function follow(
  log: FlowLog,
  response: ServerResponse,
  last: readonly Flow[],
  matching: (flow: Flow) => boolean,
): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const line = (value: object) => response.write(`${JSON.stringify(value)}\n`);
  for (const flow of last) line(flow);
  let lost = 0;
  const leave = log.follow((flow) => {
    if (!matching(flow)) return;
    if (response.writableLength > mostWaiting) {
      lost++;
      return;
    }
    if (lost > 0) line({ lost });
    lost = 0;
    line(flow);
  });
  response.once('close', leave);
}

function parseLimit(text: string | null): number {
  const limit = text === null ? usualLimit : /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(limit)) throw new InputError('limit', text, 'a number');
  return limit;
}
