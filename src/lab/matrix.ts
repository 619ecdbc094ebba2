import type { Family } from '../model/address.ts';
import { httpPort, type LabPlan, type LabPod, udpPort } from './plan.ts';
import { type Answer, http, udp } from './probe.ts';

export const probeKinds = ['http', 'udp'] as const;
export type ProbeKind = (typeof probeKinds)[number];

/** Addresses that a pod was given, per family. */
export type PodAddresses = ReadonlyMap<string, { readonly [F in Family]?: string }>;

/** Why a probe failed, or `ok`. */
export type Verdict = 'ok' | (string & {});

export interface Cell {
  readonly from: LabPod;
  readonly to: LabPod;
  readonly kind: ProbeKind;
  readonly family: Family;
  readonly expected: boolean;
  readonly verdict: Verdict;
}

/** Whether the demo admits a flow: before the policy everything, after it only HTTP from clients to web servers. Pure. */
export function admitted(from: LabPod, to: LabPod, kind: ProbeKind, underPolicy: boolean): boolean {
  if (!underPolicy || to.role !== 'web') return true;
  return from.role === 'client' && from.namespace === 'shop' && kind === 'http';
}

const answerMs = 3000;
/** How long silence has to last to count as blocked; what is open on one machine answers in less than a hundredth. */
const silenceMs = 500;

/** Probes every pod from every other pod, over every family and protocol, all at once. */
export function probeAll(plan: LabPlan, addresses: PodAddresses, underPolicy: boolean): Promise<Cell[]> {
  const jobs: Promise<Cell>[] = [];
  for (const from of plan.pods)
    for (const to of plan.pods)
      if (from !== to)
        for (const family of plan.families)
          for (const kind of probeKinds) {
            const expected = admitted(from, to, kind, underPolicy);
            jobs.push(probe(from, to, addresses.get(to.name)?.[family], kind, family, expected));
          }
  return Promise.all(jobs);
}

async function probe(
  from: LabPod,
  to: LabPod,
  address: string | undefined,
  kind: ProbeKind,
  family: Family,
  expected: boolean,
): Promise<Cell> {
  const cell = { from, to, kind, family, expected };
  if (address === undefined) return { ...cell, verdict: `no IPv${family} address` };
  const target = { address, family, port: kind === 'http' ? httpPort : udpPort };
  const answer = await (kind === 'http' ? http : udp)(from.netns, target, expected ? answerMs : silenceMs);
  return { ...cell, verdict: judge(answer, to.name) };
}

/** An answer counts only if it came from the machine that was meant. */
export function judge(answer: Answer | string, wanted: string): Verdict {
  if (typeof answer === 'string') return answer;
  return answer.name === wanted ? 'ok' : `answered by ${answer.name}`;
}

/** Cells that are not as expected. */
export function wrong(cells: readonly Cell[]): Cell[] {
  return cells.filter(({ verdict, expected }) => (verdict === 'ok') !== expected);
}

/** A probe in one line: who, to whom, what came of it and what was expected. */
export function describeCell({ from, to, kind, family, expected, verdict }: Cell): string {
  return `${from.name} → ${to.name} ${kind} over IPv${family}: ${verdict}, expected ${expected ? 'an answer' : 'none'}`;
}

/** Lines of a matrix, from downwards, to across: one letter per open protocol, `·` for what is blocked. Pure. */
export function drawMatrix(pods: readonly LabPod[], cells: readonly Cell[]): string[] {
  const names = pods.map(({ pod }) => pod);
  const left = Math.max(...names.map((name) => name.length), 'from \\ to'.length);
  const width = Math.max(...names.map((name) => name.length), 6);
  const cellText = (from: LabPod, to: LabPod) => {
    if (from === to) return '-';
    const here = cells.filter((cell) => cell.from === from && cell.to === to);
    const open = probeKinds.filter((kind) => here.some((cell) => cell.kind === kind && cell.verdict === 'ok'));
    const partly = probeKinds.filter(
      (kind) => new Set(here.filter((c) => c.kind === kind).map((c) => c.verdict === 'ok')).size > 1,
    );
    if (partly.length > 0) return `${partly.join('+')}?`;
    return open.length === probeKinds.length ? 'all' : open.join('+') || '·';
  };
  return [
    ['from \\ to'.padEnd(left), ...names.map((name) => name.padEnd(width))].join('  '),
    ...pods.map((from) => [from.pod.padEnd(left), ...pods.map((to) => cellText(from, to).padEnd(width))].join('  ')),
  ].map((line) => line.trimEnd());
}
