import { InputError } from '../base/errors.ts';
import { poolMode } from '../felix/calc/tunnels.ts';
import { endpointWishes } from '../model/bandwidth.ts';
import type { IpPool, WorkloadEndpoint } from '../model/kinds.ts';
import { compilePolicy, compileProfile } from '../policy/compile.ts';
import type { AnyPolicy } from '../policy/scope.ts';
import { type StagedPolicy, unstaged } from '../policy/staged.ts';
import type { Manifest } from './documents.ts';

/** What is wrong with a resource that its schema cannot know: selectors, addresses, ports, and what annotations wish for. */
export function compiledProblems({ key, value }: Manifest): readonly InputError[] {
  switch (key.type) {
    case 'NetworkPolicy':
    case 'GlobalNetworkPolicy':
      return compilePolicy(value as AnyPolicy, () => true).problems;
    case 'StagedNetworkPolicy':
    case 'StagedGlobalNetworkPolicy':
    case 'StagedKubernetesNetworkPolicy':
      return compilePolicy(unstaged(value as StagedPolicy), () => true).problems;
    case 'Profile':
      return compileProfile(value as Parameters<typeof compileProfile>[0]).problems;
    case 'IPPool':
      return refusals(() => poolMode(`IPPool(${key.name})`, value as IpPool));
    case 'WorkloadEndpoint':
      return refusals(() => endpointWishes(value as WorkloadEndpoint));
    default:
      return [];
  }
}

/** What only the dataplane's reading of annotations finds. */
function refusals(read: () => unknown): InputError[] {
  try {
    read();
    return [];
  } catch (thrown) {
    if (thrown instanceof InputError) return [thrown];
    throw thrown;
  }
}
