import { type Clock, pause } from '../../base/clock.ts';
import { InputError } from '../../base/errors.ts';
import type { ProbeRequest, ProbeResult } from '../../kernel/probe.ts';
import { Serial } from '../../kernel/serial.ts';
import type { Ip } from '../../model/address.ts';
import type { View } from '../control.ts';
import type { Flow } from '../flow-log/flow.ts';
import type { FlowLog } from '../flow-log/log.ts';
import {
  type AnyLiveAnswer,
  type ExplainOptions,
  explainLive,
  type LiveAnswer,
  type LiveServiceAnswer,
  parseQuestion,
} from './view.ts';

/** What a real packet met, beside what was computed. */
export interface Probed extends ProbeResult {
  /** What the kernel of this node told of the packet. */
  readonly told: readonly Flow[];
  /** Whether it met what was computed; absent where that cannot be told, as nothing need answer UDP. */
  readonly agrees?: boolean;
}

export type ProbedAnswer = LiveAnswer & { readonly probe: Probed };
export type ProbedServiceAnswer = LiveServiceAnswer & { readonly probe: Probed };
export type AnyProbedAnswer = ProbedAnswer | ProbedServiceAnswer;

export interface ProbeOptions extends ExplainOptions {
  readonly flows: Pick<FlowLog, 'recent' | 'follow'>;
  /** Finds the pod behind a device, and sends from there; without a device, from the node itself. */
  readonly send: (device: string | undefined, request: ProbeRequest, signal: AbortSignal) => Promise<ProbeResult>;
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

async function probe(options: ProbeOptions, query: URLSearchParams): Promise<AnyProbedAnswer> {
  const { node, flows, send, clock } = options;
  const found = await explainLive(options, parseQuestion(query));
  const { source } = found;
  if (source.node === undefined)
    throw new InputError('FROM', source.address, 'a pod or host:NODE, as a probe is sent from one');
  if (source.node !== node) {
    const name = source.pod === undefined ? `host:${source.node}` : `${source.namespace}/${source.pod}`;
    throw new InputError('FROM', name, `a pod on this node; run this on ${source.node}`);
  }
  const target = targetOf(found);
  const { port } = target;
  const request: ProbeRequest = { source: source.address, ...target, timeoutMs };
  const before = [...flows.recent()].at(-1)?.number ?? 0;
  const stop = new AbortController();
  const ports = portsOf(found);
  // A packet that was denied waits for nothing.
  const leave = flows.follow((flow) => {
    const denied = flow.verdict === 'deny' && flow.source.address === source.address;
    if (denied && ports.has(flow.destination.port)) stop.abort();
  });
  const result = await send(source.interface, request, stop.signal).finally(leave);
  const came = result.outcome === 'answered' || result.outcome === 'refused';
  if (!came && !stop.signal.aborted) await pause(clock, tellingMs);
  const told = [...flows.recent()].filter((flow) => flow.number > before && isOf(flow, source.address, result, port));
  // Nobody is behind a service without endpoints: what came back is kube-proxy's word.
  const nobody = 'service' in found && found.endpoints.length === 0;
  const agrees = nobody ? undefined : compare(found.verdict, request.protocol, result, told);
  return { ...found, probe: { ...result, told, ...(agrees !== undefined && { agrees }) } };
}

/** Where the packet goes. @throws InputError for a headless service, which has no address */
function targetOf(found: AnyLiveAnswer): Pick<ProbeRequest, 'destination' | 'protocol' | 'port'> {
  if ('service' in found) {
    const { namespace, name, address, protocol, port } = found.service;
    if (address === undefined)
      throw new InputError(
        'TO',
        `svc:${namespace}/${name}`,
        'one of its endpoints, as a headless service has no address',
      );
    return { destination: address, protocol, port };
  }
  const { transport, destination } = found;
  const port = transport.protocol === 'icmp' ? 0 : transport.port;
  return { destination: destination.address, protocol: transport.protocol, port };
}

/** The ports that the packet may be seen with, as a service's is translated. */
function portsOf(found: AnyLiveAnswer): ReadonlySet<number | undefined> {
  const asked = 'service' in found ? found.endpoints : [found];
  return new Set(asked.map(({ transport }) => (transport.protocol === 'icmp' ? undefined : transport.port)));
}

/** A source port is the probe's own; an echo is told apart by the time. The destination may have been translated. */
function isOf({ source, icmp }: Flow, address: Ip, { sourcePort }: ProbeResult, port: number): boolean {
  return source.address === address && (port === 0 ? icmp !== undefined : source.port === sourcePort);
}

/** Pure: whether what came of a packet is what was computed; undefined where that cannot be told. */
export function compare(
  verdict: AnyLiveAnswer['verdict'],
  protocol: ProbeRequest['protocol'],
  { outcome }: Pick<ProbeResult, 'outcome'>,
  told: readonly Pick<Flow, 'verdict'>[],
): boolean | undefined {
  // It met one of several endpoints, and not all are alike.
  if (verdict === 'mixed') return undefined;
  if (told.some((flow) => flow.verdict === 'deny')) return verdict === 'deny';
  switch (outcome) {
    case 'answered':
    case 'refused':
      return verdict === 'allow';
    case 'silent':
      if (verdict === 'deny') return true;
      return protocol === 'udp' ? undefined : false;
    case 'unreachable':
      return undefined;
  }
}
