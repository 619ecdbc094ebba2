import type { CountedRule } from '../../kernel/iptables/counters.ts';
import { ruleHash } from '../../kernel/iptables/rules.ts';
import type { VerdictLines } from '../../policy/render/lines.ts';

/** The rule in the kernel that makes a verdict. */
export interface LiveLine {
  readonly chain: string;
  /** From 1, as `iptables -L --line-numbers` counts; absent: the kernel has no such rule. */
  readonly line?: number;
  /** As iptables-save prints it. */
  readonly rule?: string;
  readonly packets: number;
  readonly bytes: number;
}

/** Finds the lines in the rules of their chain, by their tags. Of several that stand for one rule of policy, the first; the counts are of all. */
export function liveLine({ chain, texts, after }: VerdictLines, rules: readonly CountedRule[]): LiveLine {
  const tags = new Set(texts.map((text) => ruleHash(chain, text)));
  const standing = rules.map((rule, at) => ({ rule, line: at + 1 }));
  const found = standing.filter(({ rule }) => tags.has(rule.hash));
  // Equal rules of one chain are the ends of its tiers, of which each has its own count.
  const own = texts.length === 1 ? found.slice(after, after + 1) : found;
  const sum = (of: (rule: CountedRule) => number) => own.reduce((total, { rule }) => total + of(rule), 0);
  return {
    chain,
    ...(own[0] && { line: own[0].line, rule: own[0].rule.text }),
    packets: sum(({ packets }) => packets),
    bytes: sum(({ bytes }) => bytes),
  };
}
