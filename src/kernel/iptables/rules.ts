import { hash } from 'node:crypto';
import { InputError } from '../../base/errors.ts';
import type { DesiredTable, RuleText } from '../types.ts';

/*
 * Rules tagged with their hash. The hash is of the chain's name and the rule's text. It is not chained through the
 * rules before it: the driver compares whole sequences of hashes, so order is checked anyway, and a rule that keeps its
 * hash when one is put above it also keeps its counters.
 */

/** A rule with its tag: `text` is what follows `-A chain`. */
export interface TaggedRule {
  readonly hash: string;
  readonly text: string;
}

/** A chain's rules with their tags, and the chains of ours that they jump to. */
export interface TaggedChain {
  readonly name: string;
  readonly rules: readonly TaggedRule[];
  /** Those of `rules`. The same array as long as the chain is tagged from the same rules. */
  readonly hashes: readonly string[];
  readonly targets: readonly string[];
}

/** A DesiredTable with every rule tagged and every name checked. */
export interface TaggedTable {
  readonly chains: ReadonlyMap<string, TaggedChain>;
  readonly insertions: ReadonlyMap<string, TaggedChain>;
  readonly appendices: ReadonlyMap<string, TaggedChain>;
}

/** XT_EXTENSION_MAXNAMELEN less the final NUL. */
const longestChain = 28;
const prefix = 'cali';

/** Changed when the same text shall no longer count as the same rule. */
const format = '1';

const known = new WeakMap<readonly RuleText[], TaggedChain & { readonly field: string }>();

/** Whether a chain of this name belongs to us. */
export function isOurs(chain: string): boolean {
  return chain.startsWith(prefix);
}

/** 16 characters of base64url: 96 bits of SHA-256. Stable over versions, as it decides what a restart rewrites. */
export function ruleHash(chain: string, rule: RuleText): string {
  return hash('sha256', `${format}\n${chain}\n${rule}`, 'base64url').slice(0, 16);
}

/**
 * Tags a table's rules. An array of rules that was tagged before is not hashed again, so unchanged chains must keep
 * their array and arrays must not be changed in place.
 * @throws InputError naming the chain and the rule
 */
export function tagTable(name: string, table: DesiredTable): TaggedTable {
  const tagged: TaggedTable = {
    chains: tagChains(`${name}.chains`, table.chains, true),
    insertions: tagChains(`${name}.insertions`, table.insertions, false),
    appendices: tagChains(`${name}.appendices`, table.appendices ?? new Map(), false),
  };
  for (const kind of [tagged.chains, tagged.insertions, tagged.appendices])
    for (const chain of kind.values())
      for (const target of chain.targets)
        if (!tagged.chains.has(target))
          throw new InputError(`${name} ${chain.name}`, `-j ${target}`, 'a jump to a chain of the same table');
  return tagged;
}

function tagChains(field: string, chains: ReadonlyMap<string, readonly RuleText[]>, ours: boolean) {
  const tagged = new Map<string, TaggedChain>();
  for (const [name, rules] of chains) {
    const before = known.get(rules);
    if (before?.name === name && before.field === field) {
      tagged.set(name, before);
      continue;
    }
    if (isOurs(name) !== ours || !/^[^\s"'-][^\s"']*$/.test(name) || name.length > longestChain)
      throw new InputError(
        field,
        name,
        `a chain of at most ${longestChain} characters that ${ours ? 'begins' : 'does not begin'} with ${prefix}`,
      );
    tagged.set(name, tagChain(field, name, rules));
  }
  return tagged;
}

function tagChain(field: string, name: string, rules: readonly RuleText[]): TaggedChain {
  const targets = new Set<string>();
  const tagged = rules.map((rule): TaggedRule => {
    if (/[\n\r\0]/.test(rule)) throw new InputError(`${field} ${name}`, rule, 'a rule of one line');
    const target = ourTarget(rule);
    if (target !== undefined) targets.add(target);
    const tag = ruleHash(name, rule);
    return { hash: tag, text: `-m comment --comment "cali:${tag}" ${rule}` };
  });
  const chain = { field, name, rules: tagged, hashes: tagged.map((rule) => rule.hash), targets: [...targets] };
  known.set(rules, chain);
  return chain;
}

/** The chain of ours that a rule jumps or goes to; text in quotes (comments) does not count. */
export function ourTarget(rule: string): string | undefined {
  if (!rule.includes(prefix)) return undefined;
  const bare = rule.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  const match = /(?:^|\s)(?:-j|-g|--jump|--goto)\s+(\S+)/.exec(bare);
  return match?.[1]?.startsWith(prefix) ? match[1] : undefined;
}
