import { type Clock, pause } from '../../base/clock.ts';
import { InputError } from '../../base/errors.ts';
import type { ProbeRequest, ProbeResult } from '../../kernel/probe.ts';
import { Serial } from '../../kernel/serial.ts';
import type { Ip } from '../../model/address.ts';
import type { Answer } from '../../policy/question.ts';
import type { View } from '../control.ts';
import type { Flow } from '../flow-log/flow.ts';
import type { FlowLog } from '../flow-log/log.ts';
import { type ExplainOptions, explainLive, type LiveAnswer, parseQuestion } from './view.ts';

/** What a real packet met, beside what was computed. */
export interface Probed extends ProbeResult {
  /** What the kernel of this node told of the packet. */
  readonly told: readonly Flow[];
  /** Whether it met what was computed; absent where that cannot be told, as nothing need answer UDP. */
  readonly agrees?: boolean;
}

export interface ProbedAnswer extends LiveAnswer {
  readonly probe: Probed;
}

export interface ProbeOptions extends ExplainOptions {
  readonly flows: Pick<FlowLog, 'recent' | 'follow'>;
  /** Finds the pod behind a device, and sends from there. */
  readonly send: (device: string, request: ProbeRequest, signal: AbortSignal) => Promise<ProbeResult>;
  readonly clock: Clock;
}

const timeoutMs = 2000;
/** Verdicts are gathered by the kernel and read at intervals: they come so late at most. */
const tellingMs = 400;

/** `POST /v1/probe` with the parameters of `/v1/explain`; one at a time. */
export function probeView(options: ProbeOptions): View {
  const turns = new Serial();
  return (query) => turns.run(() => probe(options, query));
}

async function probe(options: ProbeOptions, query: URLSearchParams): Promise<ProbedAnswer> {
  const { node, flows, send, clock } = options;
  const found = await explainLive(options, parseQuestion(query));
  const { source, destination, transport } = found;
  if (source.pod === undefined || source.interface === undefined)
    throw new InputError('FROM', source.address, 'a pod, as a probe is sent from one');
  if (source.node !== node)
    throw new InputError('FROM', `${source.namespace}/${source.pod}`, `a pod on this node; run this on ${source.node}`);
  const port = transport.protocol === 'icmp' ? 0 : transport.port;
  const request: ProbeRequest = {
    ...{ source: source.address, destination: destination.address, protocol: transport.protocol, port },
    timeoutMs,
  };
  const before = [...flows.recent()].at(-1)?.number ?? 0;
  const stop = new AbortController();
  // A packet that was denied waits for nothing.
  const leave = flows.follow((flow) => {
    if (flow.verdict === 'deny' && flow.source.address === source.address && flow.destination.port === portOf(request))
      stop.abort();
  });
  const result = await send(source.interface, request, stop.signal).finally(leave);
  const came = result.outcome === 'answered' || result.outcome === 'refused';
  if (!came && !stop.signal.aborted) await pause(clock, tellingMs);
  const told = [...flows.recent()].filter((flow) => flow.number > before && isOf(flow, source.address, result, port));
  const agrees = compare(found, result, told);
  return { ...found, probe: { ...result, told, ...(agrees !== undefined && { agrees }) } };
}

function portOf({ protocol, port }: ProbeRequest): number | undefined {
  return protocol === 'icmp' ? undefined : port;
}

/** A source port is the probe's own; an echo is told apart by the time. The destination may have been translated. */
function isOf({ source, icmp }: Flow, address: Ip, { sourcePort }: ProbeResult, port: number): boolean {
  return source.address === address && (port === 0 ? icmp !== undefined : source.port === sourcePort);
}

/** Pure: whether what came of a packet is what was computed; undefined where that cannot be told. */
export function compare(
  { verdict, transport }: Pick<Answer, 'verdict' | 'transport'>,
  { outcome }: Pick<ProbeResult, 'outcome'>,
  told: readonly Pick<Flow, 'verdict'>[],
): boolean | undefined {
  if (told.some((flow) => flow.verdict === 'deny')) return verdict === 'deny';
  switch (outcome) {
    case 'answered':
    case 'refused':
      return verdict === 'allow';
    case 'silent':
      if (verdict === 'deny') return true;
      return transport.protocol === 'udp' ? undefined : false;
    case 'unreachable':
      return undefined;
  }
}
