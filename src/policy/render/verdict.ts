import type { RuleText } from '../../kernel/types.ts';
import { shortened } from './names.ts';

/*
 * Verdicts that the kernel tells of: before a rule that ends in a verdict stands one that logs to the NFLOG group, with a
 * prefix that names the place. iptables-extensions(8), NFLOG.
 */

/** Which verdicts are told. */
export interface VerdictLogs {
  readonly denied: boolean;
  readonly allowed: boolean;
}

export const noVerdictLogs: VerdictLogs = { denied: false, allowed: false };

/** The number that our routes have, too; Calico's Felix takes 1 and 2, kube-router 100. */
export const verdictGroup = 80;

/** Packets that one rule may tell of: so many a second, and so many at once before that counts. */
export const verdictLimit = { perSecond: 10, burst: 20 } as const;

/** What stands in a chain: a rule of a policy or profile as written, the end of a tier, or the end of all. */
export type VerdictPlace =
  | { readonly by: 'rule'; readonly rule: number }
  | { readonly by: 'tier'; readonly tier: string }
  | { readonly by: 'end' };

export interface VerdictMark {
  readonly verdict: 'allow' | 'deny';
  /** Of the kernel's filter table. */
  readonly chain: string;
  /** A long tier's name comes as `tierToken` makes it. */
  readonly place: VerdictPlace;
}

/** The kernel keeps 63 octets of a prefix; verdict, chain and separators take up to 32. */
const longestTier = 31;

/** A tier's name as a prefix holds it. */
export function tierToken(tier: string): string {
  return shortened(tier, longestTier);
}

/** `D|cali-pi-default.a|r0`, `A|…`, `D|cali-tw-cali123|tdefault`, `D|cali-tw-cali123|e`: at most 63 octets. */
export function verdictPrefix({ verdict, chain, place }: VerdictMark): string {
  return `${verdict === 'allow' ? 'A' : 'D'}|${chain}|${placeText(place)}`;
}

function placeText(place: VerdictPlace): string {
  switch (place.by) {
    case 'rule':
      return `r${place.rule}`;
    case 'tier':
      return `t${tierToken(place.tier)}`;
    case 'end':
      return 'e';
  }
}

/** What `verdictPrefix` wrote; undefined for another's prefix. */
export function parseVerdictPrefix(text: string): VerdictMark | undefined {
  const [, letter, chain, rule, tier] = /^([AD])\|(cali[^|]{1,24})\|(?:r(\d{1,9})|t([^|]{1,31})|e)$/.exec(text) ?? [];
  if (chain === undefined) return undefined;
  const place: VerdictPlace =
    rule !== undefined ? { by: 'rule', rule: Number(rule) } : tier !== undefined ? { by: 'tier', tier } : { by: 'end' };
  return { verdict: letter === 'A' ? 'allow' : 'deny', chain, place };
}

/** The target of the rule that tells, with the limit before it; nothing when such verdicts are not told. */
export function verdictTarget(logs: VerdictLogs, mark: VerdictMark): RuleText[] {
  if (!(mark.verdict === 'allow' ? logs.allowed : logs.denied)) return [];
  return [tellingRule(verdictPrefix(mark))];
}

/** What a kernel must take for verdicts to be told. */
export function tellingRule(prefix: string): RuleText {
  const { perSecond, burst } = verdictLimit;
  const limit = `-m limit --limit ${perSecond}/sec --limit-burst ${burst}`;
  return `${limit} -j NFLOG --nflog-group ${verdictGroup} --nflog-prefix "${prefix}"`;
}
