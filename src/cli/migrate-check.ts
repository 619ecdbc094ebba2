import { explain } from '../base/errors.ts';
import { keyText } from '../datastore/store.ts';
import { type Gap, gapsOf } from '../migrate/calico.ts';
import { type Dump, type Item, readDump } from '../migrate/dump.ts';
import { compilePolicy, compileProfile } from '../policy/compile.ts';
import type { AnyPolicy } from '../policy/scope.ts';
import { builtInTiers } from '../policy/tiers.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatTable, print } from './output.ts';

/** Names all that Calico follows and Margay does not. @throws ExitError with 1 when there is something */
export async function checkCalico({ store }: Deps, format: Format): Promise<void> {
  const gaps = calicoGaps(await readDump(store));
  print(format, gaps, () => {
    if (gaps.length === 0) return 'everything is followed\n';
    const rows = gaps.map(({ field, value = '-', detail }) => [field, value, detail]);
    return formatTable({ columns: ['field', 'value', 'with margay'], rows });
  });
  if (gaps.length > 0) throw new ExitError(exitCode.failure, '');
}

/** Pure. */
export function calicoGaps({ items, invalid, others }: Dump): Gap[] {
  const tiers = new Set(items.flatMap(({ key }) => (key.type === 'Tier' ? [key.name] : [])));
  return [
    ...gapsOf(items, others),
    ...items.flatMap((item) => policyGaps(item, (tier) => tiers.has(tier) || builtInTiers.has(tier))),
    ...invalid.map(({ key, error }) => ({ field: keyText(key), detail: `cannot be read: ${explain(error)}` })),
  ];
}

/** Rules that are not understood, and what they isolate instead. */
function policyGaps({ key, value }: Item, tierExists: (tier: string) => boolean): Gap[] {
  const problems =
    key.type === 'NetworkPolicy' || key.type === 'GlobalNetworkPolicy'
      ? compilePolicy(value as AnyPolicy, tierExists).problems
      : key.type === 'Profile'
        ? compileProfile(value as Parameters<typeof compileProfile>[0]).problems
        : [];
  return problems.map(({ field, message }) => ({ field, detail: `is not understood: ${message}` }));
}
