import { InputError } from '../base/errors.ts';
import type { Kind } from '../model/kinds.ts';
import { type UnknownField, unknownFields } from '../model/unknown-fields.ts';

/** Kinds in which a misspelt field would let through, or shut out, what its author never meant. */
const policyKinds: ReadonlySet<Kind> = new Set<Kind>([
  ...(['NetworkPolicy', 'GlobalNetworkPolicy', 'Tier', 'Profile', 'NetworkSet', 'GlobalNetworkSet'] as const),
  ...(['StagedNetworkPolicy', 'StagedGlobalNetworkPolicy', 'StagedKubernetesNetworkPolicy', 'HostEndpoint'] as const),
]);

/** What Calico's agents may be told in a policy without a change of its meaning. */
const hints: readonly string[] = ['spec.performanceHints'];

/**
 * The fields of a person's object that its kind does not have. Refused where they may change what policy means, and outside
 * of `spec`, whose fields are the same everywhere; elsewhere a Calico beside Margay may follow what Margay does not.
 */
export function strangeFields(
  kind: Kind,
  value: unknown,
): { readonly refused: readonly InputError[]; readonly ignored: readonly UnknownField[] } {
  const all = unknownFields(kind, value).filter(({ field }) => !hints.includes(field));
  const isRefused = ({ field }: UnknownField) => policyKinds.has(kind) || !field.startsWith('spec.');
  return {
    refused: all
      .filter(isRefused)
      .map(({ field, value: found }) => new InputError(`${kind}.${field}`, found, 'no such field')),
    ignored: all.filter((field) => !isRefused(field)),
  };
}
