import type { TableName } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';
import { tiersOf } from '../host.ts';
import type { NodePolicy } from '../ir.ts';
import type { HostStep } from '../path.ts';
import { nameOf } from './host.ts';
import { linesOf, tierEnd, type VerdictLines } from './lines.ts';

export interface HostVerdictLines extends VerdictLines {
  readonly table: TableName;
}

/**
 * The lines of the rule that decided at a host endpoint of this node. Undefined where none of policy did (failsafe ports,
 * neighbour discovery, what is forwarded without a policy for it), or it has no device here.
 */
export function decidingHostLines(
  policy: NodePolicy,
  family: Family,
  { key, direction, reason, stages }: HostStep,
): HostVerdictLines | undefined {
  const own = policy.endpoints.get(key);
  const [device] = own?.host?.devices ?? [];
  const last = stages.at(-1);
  if (!own || device === undefined || !last || !('stage' in reason)) return undefined;
  const { stage, table } = last;
  const chain = nameOf(device, direction, stage === 'forward' ? 'forward' : 'endpoint');
  switch (reason.by) {
    case 'policy': {
      const rules = policy.policies.get(reason.policy);
      const lines = linesOf('policy', rules, last.tiers.at(-1)?.policies.at(-1), direction, family);
      return lines && { ...lines, table };
    }
    case 'profile': {
      const lines = linesOf('profile', policy.profiles.get(reason.policy), last.profiles.at(-1), direction, family);
      return lines && { ...lines, table };
    }
    case 'tierDefault':
      return { ...tierEnd(chain, tiersOf(own, stage), reason.tier, direction), table };
    default:
      return { chain, texts: ['-j DROP'], after: 0, table };
  }
}
