import type { LiveLine } from '../felix/explain/live.ts';
import type { Probed, ProbedAnswer } from '../felix/explain/probe.ts';
import type { LiveHostLine } from '../felix/explain/view.ts';
import type { Transport } from '../policy/ends.ts';
import type { Reason } from '../policy/evaluate.ts';
import type { Condition, EndpointTrace, PolicyTrace, RuleTrace, TierTrace } from '../policy/explain.ts';
import type { HostReason, StageTrace } from '../policy/host.ts';
import type { HostStep } from '../policy/path.ts';
import type { Answer, Side } from '../policy/question.ts';
import { flowLine } from './flows.ts';

/** The page of `margayctl explain`. Rules are counted from 1. Pure. */
export function explainPage(answer: Answer & Partial<ProbedAnswer>): string {
  const { source, destination, transport, verdict, always, live } = answer;
  const head = `${sideText(source)} -> ${sideText(destination)}, ${transportText(transport)}: ${past(verdict)}`;
  return [
    head,
    ...(always
      ? [alwaysText[always]]
      : [
          ...end('egress', source, live?.source),
          ...answer.hosts.flatMap((step) => hostLines(step, live?.hosts)),
          ...end('ingress', destination, live?.destination),
        ]),
    ...answer.problems.map((problem) => `! ${problem}`),
    ...(answer.probe ? probeLines(answer.probe, verdict) : []),
    '',
  ].join('\n');
}

const outcomeOf = {
  answered: 'was answered',
  refused: 'met a closed port',
  unreachable: 'cannot reach the address, says a router',
  silent: 'was not answered',
};

/** What a real packet met. */
export function probeLines({ outcome, told, agrees }: Probed, verdict: 'allow' | 'deny' | 'mixed'): string[] {
  const against = agrees === false ? `, although policy ${verdict === 'allow' ? 'allows' : 'denies'} it` : '';
  const unknown = agrees === undefined ? '; whether policy let it pass cannot be told from that' : '';
  return [
    '',
    `${agrees === false ? '! ' : ''}a real packet ${outcomeOf[outcome]}${against}${unknown}`,
    ...told.map((flow) => `  the kernel told: ${flowLine(flow)}`),
  ];
}

const alwaysText = {
  samePod: 'a pod reaches itself without leaving its network namespace; no policy is asked',
  ownNode: "packets from a pod's own node always pass, so that the kubelet's probes do",
};

/** `shop/web (10.65.0.1 on n1)`, `host n1 (address)` or the address alone. */
export function sideText({ address, namespace, pod, node }: Side): string {
  if (pod === undefined) return node === undefined ? address : `host ${node} (${address})`;
  return `${namespace}/${pod} (${address} on ${node})`;
}

/** `tcp 80`, `icmp echo`. */
export function transportText(transport: Transport): string {
  return transport.protocol === 'icmp' ? 'icmp echo' : `${transport.protocol} ${transport.port}`;
}

export function past(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? 'allowed' : 'denied';
}

function end(direction: 'ingress' | 'egress', side: Side, live: LiveLine | undefined): string[] {
  const name = side.pod === undefined ? side.address : `${side.namespace}/${side.pod}`;
  const of = `${direction} ${direction === 'egress' ? 'from' : 'to'} ${name}`;
  if (!side.trace && side.node !== undefined) return [];
  if (!side.trace) return ['', `${of}: not a pod of this cluster, so no policy is asked`];
  const { trace } = side;
  return [
    '',
    `${of}: ${past(trace.verdict)}, ${reasonText(trace)}`,
    `  chain ${trace.chain} on ${side.node}`,
    ...liveLines(live),
    ...tierLines(trace.tiers),
    ...(trace.profiles.length > 0 ? ['  profiles', ...trace.profiles.flatMap((policy) => policyLines(policy))] : []),
  ];
}

/** The rule in the kernel that makes the verdict. */
function liveLines(live: LiveLine | undefined): string[] {
  if (!live) return [];
  const { chain, line, rule, packets, bytes } = live;
  if (line === undefined) return [`! the kernel has no such rule in chain ${chain}; margayctl status says more`];
  return [
    `  decided in the kernel by line ${line} of ${chain}, ${packets} packets and ${bytes} octets so far:`,
    `    ${rule}`,
  ];
}

/** What a host endpoint decides. */
function hostLines(step: HostStep, live: readonly LiveHostLine[] = []): string[] {
  const { hostEndpoint, node, device, direction, passage, verdict, reason, stages } = step;
  const does = passage === 'own' ? (direction === 'egress' ? 'sent' : 'received') : 'forwarded';
  return [
    '',
    `${direction} at host endpoint ${hostEndpoint} (${device} of ${node}), ${does} by the host: ${past(verdict)}, ${hostReason(reason, stages)}`,
    ...liveLines(live.find((line) => line.hostEndpoint === hostEndpoint && line.direction === direction)),
    ...stages.flatMap(({ stage, table, chain, tiers, profiles }) => [
      `  ${stageText[stage]} (table ${table}, chain ${chain})`,
      ...tierLines(tiers),
      ...(profiles.length > 0 ? ['  profiles', ...profiles.flatMap((policy) => policyLines(policy))] : []),
    ]),
  ];
}

const stageText = {
  untracked: 'before connection tracking',
  preDnat: 'before the destination is translated',
  own: "for the host's own traffic",
  forward: 'for forwarded traffic',
};

function hostReason(reason: HostReason, stages: readonly StageTrace[]): string {
  switch (reason.by) {
    case 'failsafe':
      return 'as it is a failsafe port';
    case 'neighbourDiscovery':
      return 'as there is no IPv6 without it';
    case 'forwarding':
      return 'as no policy with applyOnForward decides';
    default:
      return reasonText({ reason, tiers: stages.at(-1)?.tiers ?? [], profiles: stages.at(-1)?.profiles ?? [] });
  }
}

const outcomeText = {
  allow: 'a rule allows',
  deny: 'a rule denies',
  pass: 'a rule passes on to the next tier',
  defaultDeny: 'no rule decides, so the tier denies',
  none: 'no rule decides, and the tier passes on',
};

function tierLines(tiers: readonly TierTrace[]): string[] {
  return tiers.flatMap(({ tier, outcome, policies }) => [
    `  tier ${tier}: ${outcomeText[outcome]}`,
    ...policies.flatMap((policy) => policyLines(policy)),
  ]);
}

function policyLines({ policy, chain, rules }: PolicyTrace): string[] {
  return [
    `    ${policy} (chain ${chain})${rules.length === 0 ? ': no rules' : ''}`,
    ...rules.map((rule) => `      rule ${rule.rule + 1}${nameText(rule)} ${rule.action}: ${ruleText(rule)}`),
  ];
}

function nameText({ name }: RuleTrace): string {
  return name === undefined ? '' : ` "${name}"`;
}

function ruleText({ matched, conditions }: RuleTrace): string {
  if (!matched) return `no, ${conditions.map((condition) => `wants ${conditionText(condition)}`).join('')}`;
  if (conditions.length === 0) return 'matches everything';
  return `matches ${conditions.map(conditionText).join(', ')}`;
}

/** `notSourceSets` → `not source sets app == "a"`. */
function conditionText({ condition, wanted }: Condition): string {
  const words = condition.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return `${words.replace(/ (port )?sets$/, (_, port) => (port ? ' named' : ' selector'))} ${wanted}`;
}

function reasonText({ reason, tiers, profiles }: Pick<EndpointTrace, 'reason' | 'tiers' | 'profiles'>): string {
  const hit = (traces: readonly PolicyTrace[], rule: number) => `by rule ${rule + 1} of ${traces.at(-1)?.policy}`;
  return reasonOf(reason, (by, rule) => hit(by === 'policy' ? (tiers.at(-1)?.policies ?? []) : profiles, rule));
}

function reasonOf(reason: Reason, hit: (by: 'policy' | 'profile', rule: number) => string): string {
  switch (reason.by) {
    case 'policy':
    case 'profile':
      return hit(reason.by, reason.rule);
    case 'tierDefault':
      return `as policies of tier ${reason.tier} apply and none of their rules matches`;
    case 'missingProfile':
      return `as its profile ${reason.profile} does not exist`;
    case 'noProfile':
      return 'as no policy applies and no profile allows';
    case 'unknownEndpoint':
      return 'as the endpoint is not known';
  }
}
