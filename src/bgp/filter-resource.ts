import { InputError } from '../base/errors.ts';
import { bits, type Family, familyOf, parseCidr, splitCidr } from '../model/address.ts';
import type { BgpFilterRule } from '../model/bgp.ts';
import type { BgpFilter } from '../model/kinds.ts';
import type { Community, FilterRule, Operation, RulesOf } from './filters.ts';

/** A BGPFilter with its texts understood. */
export interface ParsedFilter {
  readonly import: RulesOf;
  readonly export: RulesOf;
}

/** @throws InputError naming the field that cannot be followed */
export function parseFilter({ metadata, spec }: BgpFilter): ParsedFilter {
  const where = `BGPFilter(${metadata.name}).spec`;
  const rules = (field: 'importV4' | 'importV6' | 'exportV4' | 'exportV6', family: Family): FilterRule[] =>
    spec[field].map((rule, i) => parseRule(rule, family, `${where}.${field}[${i}]`));
  return {
    import: { 4: rules('importV4', 4), 6: rules('importV6', 6) },
    export: { 4: rules('exportV4', 4), 6: rules('exportV6', 6) },
  };
}

function parseRule(rule: BgpFilterRule, family: Family, where: string): FilterRule {
  const [value] = rule.communities?.values ?? [];
  return {
    ...prefixOf(rule, family, where),
    ...(rule.source ? { remote: true } : {}),
    ...(rule.interface === undefined ? {} : { interface: parsePattern(rule.interface, `${where}.interface`) }),
    ...(rule.peerType ? { peerType: rule.peerType } : {}),
    ...(value === undefined ? {} : { community: parseCommunity(value) }),
    ...(rule.asPathPrefix && rule.asPathPrefix.length > 0 ? { asPathPrefix: rule.asPathPrefix } : {}),
    ...(rule.priority === undefined ? {} : { priority: rule.priority }),
    action: rule.action === 'Accept' ? 'accept' : 'reject',
    operations: (rule.operations ?? []).map(operationOf),
  };
}

/** The name of a device with `*` for any characters, as Calico allows it. */
function parsePattern(text: string, field: string): string {
  if (/^[a-zA-Z0-9_.*-]{1,15}$/.test(text)) return text;
  throw new InputError(field, text, 'up to 15 letters, digits, and any of _ . - *');
}

function prefixOf(rule: BgpFilterRule, family: Family, where: string): Pick<FilterRule, 'prefix'> {
  if (!rule.cidr || !rule.matchOperator) return {};
  const cidr = parseCidr(rule.cidr, `${where}.cidr`);
  if (familyOf(cidr) !== family) throw new InputError(`${where}.cidr`, rule.cidr, `an IPv${family} prefix`);
  const { length } = splitCidr(cidr);
  const { min: least = length, max: most = bits(family) } = rule.prefixLength ?? {};
  if (most > bits(family)) throw new InputError(`${where}.prefixLength.max`, most, `at most ${bits(family)}`);
  if (least > most) throw new InputError(`${where}.prefixLength.min`, least, `at most the max, ${most}`);
  const negated = rule.matchOperator.startsWith('Not');
  const match = rule.matchOperator.endsWith('Equal') ? 'equal' : 'in';
  return { prefix: { cidr, match, negated, least, most } };
}

function operationOf({
  addCommunity,
  prependASPath,
  setPriority,
}: NonNullable<BgpFilterRule['operations']>[number]): Operation {
  if (addCommunity) return { do: 'addCommunity', community: parseCommunity(addCommunity.value) };
  if (prependASPath) return { do: 'prepend', asns: prependASPath.prefix };
  if (setPriority) return { do: 'setPriority', priority: setPriority.value };
  throw new Error('the schema let an operation without content pass');
}

/** `65000:100` or `65000:1:2`, which the schema has checked. */
export function parseCommunity(text: string): Community {
  const [first = 0, second = 0, third] = text.split(':').map(Number);
  return third === undefined ? first * 0x10000 + second : [first, second, third];
}
