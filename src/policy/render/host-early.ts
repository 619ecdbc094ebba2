import type { DesiredTable, RuleText } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';
import type { EarlyStage, EndpointPolicy, NodePolicy, TierPolicies } from '../ir.ts';
import { tierRules } from './endpoint.ts';
import { type Device, devicesOf, dispatch, doubtful, failsafes, type HostOptions, nameOf, neighbours } from './host.ts';
import { acceptMark, chains, passMark } from './names.ts';

/*
 * What host endpoints decide before the filter table: policies with doNotTrack in `raw`, before connection tracking, and
 * those with preDNAT in `mangle`, before the destination is translated. What they accept carries the accept mark into the
 * filter table; what none of their rules decides goes on as if they were not there.
 */

type Direction = 'ingress' | 'egress';

/** The two tables; empty where no policy asks for them. */
export interface EarlyTables {
  readonly raw: DesiredTable;
  readonly mangle: DesiredTable;
}

/** Which stages decide anything on the node. */
export function earlyStages(policy: NodePolicy): ReadonlySet<EarlyStage> {
  const hosts = [...policy.endpoints.values()].flatMap(({ host }) => host ?? []);
  return new Set((['untracked', 'preDnat'] as const).filter((stage) => hosts.some((host) => host[stage].length > 0)));
}

/** @param rulesOf the chains of a stage's policies */
export function earlyTables(
  policy: NodePolicy,
  family: Family,
  options: HostOptions,
  rulesOf: (stage: EarlyStage) => readonly (readonly [string, readonly RuleText[]])[],
): EarlyTables {
  const stages = earlyStages(policy);
  const devices = devicesOf(policy);
  const build = (stage: EarlyStage, directions: readonly Direction[]) =>
    stages.has(stage)
      ? [
          ...rulesOf(stage),
          [chains.accept, [`-j MARK --set-xmark ${acceptMark}`]] as const,
          [chains.pass, [`-j MARK --set-xmark ${passMark}`]] as const,
          ...directions.flatMap((direction) => stageChains(stage, direction, devices, policy, family, options)),
        ]
      : [];
  return {
    raw: rawOf(stages, build('untracked', ['ingress', 'egress'])),
    mangle: mangleOf(build('preDnat', ['ingress'])),
  };
}

type Chains = readonly (readonly [string, readonly RuleText[]])[];

const clear = '-j MARK --set-xmark 0x0/0x30000';
const accepted = `-m mark --mark ${acceptMark}`;
const nothing: DesiredTable = { chains: new Map(), insertions: new Map() };

/** Marks are cleared here for all that follows, so that those of other software open nothing. */
function rawOf(stages: ReadonlySet<EarlyStage>, own: Chains): DesiredTable {
  if (stages.size === 0) return nothing;
  if (own.length === 0)
    return {
      chains: new Map([['cali-PREROUTING', [clear]]]),
      insertions: new Map([['PREROUTING', jump('PREROUTING')]]),
    };
  const way = (dispatcher: string) => [
    clear,
    `-j ${dispatcher}`,
    `${accepted} -j CT --notrack`,
    `${accepted} -j ACCEPT`,
  ];
  return {
    chains: new Map([...own, ['cali-PREROUTING', way(chains.fromHost)], ['cali-OUTPUT', way(chains.toHost)]]),
    insertions: new Map([
      ['PREROUTING', jump('PREROUTING')],
      ['OUTPUT', jump('OUTPUT')],
    ]),
  };
}

/** What goes on is left to the rules of others in the table. */
function mangleOf(own: Chains): DesiredTable {
  if (own.length === 0) return nothing;
  const rules = [
    '-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    `${accepted} -j RETURN`,
    `-j ${chains.fromHost}`,
  ];
  return {
    chains: new Map([...own, ['cali-PREROUTING', rules]]),
    insertions: new Map([['PREROUTING', jump('PREROUTING')]]),
  };
}

function jump(chain: string): readonly RuleText[] {
  return [`-j cali-${chain}`];
}

/** A device of its own without such a policy is not subject to that of all devices: its chain is empty. */
function stageChains(
  stage: EarlyStage,
  direction: Direction,
  devices: readonly Device[],
  policy: NodePolicy,
  family: Family,
  options: HostOptions,
): Chains {
  const ingress = direction === 'ingress';
  const own = (device: string, { host }: EndpointPolicy): readonly RuleText[] => {
    const tiers = host?.[stage] ?? [];
    const asks = (tier: TierPolicies) => tier[direction].length + (tier.staged?.[direction].length ?? 0) > 0;
    if (!tiers.some(asks)) return [];
    return [
      ...(stage === 'preDnat' ? doubtful(options) : []),
      ...neighbours(family),
      `-j ${ingress ? chains.failsafeIn : chains.failsafeOut}`,
      ...tierRules(nameOf(device, direction, 'endpoint'), tiers.map(open), direction, policy, options),
    ];
  };
  return [
    [ingress ? chains.fromHost : chains.toHost, dispatch(devices, direction, 'endpoint', options)],
    [ingress ? chains.failsafeIn : chains.failsafeOut, earlyFailsafes(stage, direction, family, options)],
    ...devices.map(({ device, host }) => [nameOf(device, direction, 'endpoint'), own(device, host)] as const),
  ];
}

function open(tier: TierPolicies): TierPolicies {
  return { ...tier, defaultAction: 'pass' };
}

/**
 * What comes in for failsafe ports only counts if the host itself is meant: where it will go is not known yet. Before
 * connection tracking replies have ports of the other direction.
 */
function earlyFailsafes(
  stage: EarlyStage,
  direction: Direction,
  family: Family,
  { failsafeInbound, failsafeOutbound }: HostOptions,
): RuleText[] {
  const ingress = direction === 'ingress';
  const [asked, answered] = ingress ? [failsafeInbound, failsafeOutbound] : [failsafeOutbound, failsafeInbound];
  const other = ingress ? '-s' : '-d';
  const here = ingress ? toHost[family] : '';
  return [
    ...failsafes(asked, other, family, '--dports', here),
    ...(stage === 'untracked' ? failsafes(answered, other, family, '--sports', here) : []),
  ];
}

/** Not forwarded: in IPv4 a broadcast, too, as DHCP answers with; in IPv6 any unicast address would be UNICAST. */
const toHost = { 4: ' -m addrtype ! --dst-type UNICAST', 6: ' -m addrtype --dst-type LOCAL' } as const;
