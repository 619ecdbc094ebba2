import { Command } from 'commander';
import { errorCode, InputError } from '../base/errors.ts';
import type { Flow, FlowEnd, FlowReason } from '../felix/flow-log/flow.ts';
import type { FlowList } from '../felix/flow-log/serve.ts';
import { parseParty } from '../policy/ends.ts';
import { ask, follow } from './control.ts';
import { runDir } from './environment.ts';
import { asUsage } from './explain.ts';
import { type Format, parseFormat, print } from './output.ts';

interface Options {
  readonly follow?: boolean;
  readonly denied?: boolean;
  readonly allowed?: boolean;
  readonly pod?: string;
  readonly namespace: string;
  readonly limit: string;
  readonly output?: string;
}

/** `margayctl flows`: exit 0, 2 for wrong options, 3 without an agent. */
export function flowsCommand(): Command {
  return new Command('flows')
    .description("recent verdicts of policy on this node's packets, each with the rule that made it")
    .option('-f, --follow', 'go on with what comes')
    .option('--denied', 'only what was denied')
    .option('--allowed', 'only what was allowed; the agent tells of it with verdictLogs: All')
    .option('--pod <pod>', 'only what a pod, NAMESPACE/POD, or an address sent or was to receive')
    .option('-n, --namespace <namespace>', 'of a pod without one', 'default')
    .option('--limit <count>', 'the last ones, at most', '50')
    .option('-o, --output <format>', 'json or yaml; with -f, json of a flow a line')
    .action((options: Options) => asUsage(() => showFlows(runDir(process.env), options)));
}

async function showFlows(dir: string, options: Options): Promise<void> {
  const format = parseFormat(options.output);
  const query = queryOf(options);
  if (options.follow) return followFlows(dir, query, format);
  const list = (await ask(dir, 'felix', `/v1/flows?${query}`)) as FlowList;
  print(format, list, () => flowsPage(list));
}

function queryOf({ denied, allowed, pod, namespace, limit }: Options): URLSearchParams {
  if (denied && allowed) throw new InputError('--allowed', 'with --denied', 'one of them, or neither for both');
  if (!/^\d{1,6}$/.test(limit)) throw new InputError('--limit', limit, 'a number');
  const query = new URLSearchParams({ limit });
  if (denied || allowed) query.set('verdict', denied ? 'deny' : 'allow');
  const party = pod === undefined ? undefined : parseParty(pod, namespace, '--pod');
  if (party && 'address' in party) query.set('address', party.address);
  else if (party) query.set('pod', `${party.namespace}/${party.pod}`);
  return query;
}

async function followFlows(dir: string, query: URLSearchParams, format: Format): Promise<void> {
  if (format === 'yaml') throw new InputError('--output', format, 'json, with -f');
  query.set('follow', '1');
  const stop = new AbortController();
  // `| head` has read enough.
  process.stdout.once('error', (cause) => {
    if (errorCode(cause) !== 'EPIPE') throw cause;
    stop.abort();
  });
  const take = (item: unknown) => {
    const told = item as Flow | { readonly lost: number };
    const line = format === 'json' ? JSON.stringify(told) : 'lost' in told ? lostText(told.lost) : flowLine(told);
    process.stdout.write(`${line}\n`);
  };
  await follow(dir, 'felix', `/v1/flows?${query}`, take, stop.signal);
}

/** The page of `margayctl flows`. Pure. */
export function flowsPage({ flows, telling, problem, lost, untold }: FlowList): string {
  const none = telling === 'none' ? 'no verdicts are told: verdictLogs is None, or the kernel has no NFLOG' : 'none';
  return [
    ...(flows.length > 0 ? flows.map(flowLine) : [none]),
    ...(problem === undefined ? [] : [`! ${problem}`]),
    ...(lost > 0 ? [lostText(lost)] : []),
    ...(untold > 0 ? [`! ${untold} more denied packets, of rules that deny too many for each to be told`] : []),
    '',
  ].join('\n');
}

function lostText(lost: number): string {
  return `! ${lost} more that came too fast to be read`;
}

/** `2026-11-21T17:00:00.000Z denied ingress tcp shop/web:40000 -> shop/db:5432: rule 2 of NetworkPolicy shop/db`. */
export function flowLine(flow: Flow): string {
  const { at, verdict, direction, source, destination } = flow;
  const what = `${verdict === 'deny' ? 'denied ' : 'allowed'} ${direction.padEnd(7)} ${transportOf(flow)}`;
  return `${at} ${what} ${endText(source)} -> ${endText(destination)}: ${reasonText(flow.reason, flow.chain)}`;
}

const protocolNames = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [58, 'icmpv6'],
  [132, 'sctp'],
]);

function transportOf({ protocol, icmp }: Flow): string {
  const name = protocolNames.get(protocol) ?? `protocol ${protocol}`;
  return icmp ? `${name} type ${icmp.type} code ${icmp.code}` : name;
}

function endText({ address, port, namespace, pod }: FlowEnd): string {
  const bare = pod === undefined && address.includes(':') && port !== undefined ? `[${address}]` : address;
  return `${pod === undefined ? bare : `${namespace}/${pod}`}${port === undefined ? '' : `:${port}`}`;
}

function reasonText(reason: FlowReason, chain: string): string {
  switch (reason.by) {
    case 'policy':
    case 'profile':
      return `rule ${reason.rule + 1} of ${reason.policy}`;
    case 'tierDefault':
      return `policies of tier ${reason.tier} apply and none of their rules matches`;
    case 'noProfile':
      return 'no policy and no profile allows it';
    case 'unknown':
      return `a policy that is gone since (chain ${chain})`;
  }
}
