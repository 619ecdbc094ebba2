import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { CountedRule, Counters } from '../../kernel/iptables/counters.ts';
import type { Family } from '../../model/address.ts';
import { parseVerdictPrefix } from '../../policy/render/verdict.ts';
import { directionOf, type VerdictPlaces } from './places.ts';

/** What was denied at one place of policy since felix first looked. */
export interface Denied {
  /** `tier|policy|rule|deny`, as Calico has it: rules count from 0, and -1 is the end of a tier or of all. */
  readonly policy: string;
  readonly direction: 'ingress' | 'egress';
  packets: number;
  bytes: number;
  /** Packets that the kernel did not tell of, for the rule had told of enough. */
  untold: number;
}

interface Seen {
  readonly packets: number;
  readonly bytes: number;
  readonly told: number;
}

/**
 * Sums of the counters of the rules that deny, which begin anew whenever a chain is written: a counter below its last
 * value counts from nothing, and what the rule counted since the last look is missed. The first look adds nothing, as an
 * earlier felix may have counted it. A denying rule is the one that follows the rule that tells of it.
 */
export class DeniedPackets {
  /** Family and prefix → the last counters. */
  #seen: Map<string, Seen> | undefined;
  #totals = new Map<string, Denied>();

  constructor(private readonly places: VerdictPlaces) {}

  /** Takes in what the tables count now; what no rule denies any more is forgotten. */
  look(tables: ReadonlyMap<Family, Counters>): void {
    const seen = new Map<string, Seen>();
    const totals = new Map<string, Denied>();
    for (const [family, counters] of tables)
      for (const [prefix, now] of deniedIn(counters)) {
        const key = `${family} ${prefix}`;
        seen.set(key, now);
        const label = this.#labelOf(prefix);
        if (!label) continue;
        const id = `${label.policy} ${label.direction}`;
        const total = totals.get(id) ?? { ...(this.#totals.get(id) ?? { ...label, packets: 0, bytes: 0, untold: 0 }) };
        const more = this.#seen ? since(this.#seen.get(key), now) : nothing;
        total.packets += more.packets;
        total.bytes += more.bytes;
        total.untold += Math.max(0, more.packets - more.told);
        totals.set(id, total);
      }
    this.#seen = seen;
    this.#totals = totals;
  }

  totals(): readonly Denied[] {
    return [...this.#totals.values()];
  }

  #labelOf(prefix: string): Pick<Denied, 'policy' | 'direction'> | undefined {
    const mark = parseVerdictPrefix(prefix);
    const direction = mark && directionOf(mark.chain);
    if (!mark || !direction) return undefined;
    const reason = this.places.reasonOf(prefix, mark);
    switch (reason.by) {
      case 'policy':
        return { policy: `${reason.tier ?? ''}|${reason.policy}|${reason.rule}|deny`, direction };
      case 'profile':
        return { policy: `profile|${reason.policy}|${reason.rule}|deny`, direction };
      case 'tierDefault':
        return { policy: `${reason.tier}|${this.places.lastOf(mark.chain, reason.tier) ?? ''}|-1|deny`, direction };
      case 'noProfile':
        return { policy: 'profile||-1|deny', direction };
      case 'unknown':
        return undefined;
    }
  }
}

/** Looks at the counters when asked to, once for all that ask at a time. */
export class DeniedReader {
  #looking: Promise<void> | undefined;

  constructor(
    private readonly denied: DeniedPackets,
    private readonly read: () => Promise<ReadonlyMap<Family, Counters>>,
    private readonly log: Log,
  ) {}

  /** What is counted now; the last values where the counters cannot be read, which is logged. */
  async totals(): Promise<readonly Denied[]> {
    this.#looking ??= this.#look();
    await this.#looking;
    return this.denied.totals();
  }

  async #look(): Promise<void> {
    try {
      this.denied.look(await this.read());
    } catch (thrown) {
      this.log.warn({ error: explain(thrown) }, 'the counters of rules could not be read');
    } finally {
      this.#looking = undefined;
    }
  }
}

const nothing: Seen = { packets: 0, bytes: 0, told: 0 };

function since(before: Seen | undefined, now: Seen): Seen {
  // Packets decide for all three, so that they stay consistent.
  if (!before || now.packets < before.packets) return now;
  return {
    packets: now.packets - before.packets,
    bytes: Math.max(0, now.bytes - before.bytes),
    told: Math.max(0, now.told - before.told),
  };
}

const telling = /--nflog-prefix +"?(D\|[^"\s]+)"?/;

/** Prefix → the sums of the rules that deny there, as one rule of policy may be several of the kernel. */
function deniedIn(counters: Counters): Map<string, Seen> {
  const found = new Map<string, Seen>();
  for (const rules of counters.values()) {
    let before: { readonly prefix: string; readonly rule: CountedRule } | undefined;
    for (const rule of rules) {
      const prefix = telling.exec(rule.text)?.[1];
      if (before) {
        const sum = found.get(before.prefix) ?? nothing;
        found.set(before.prefix, {
          packets: sum.packets + rule.packets,
          bytes: sum.bytes + rule.bytes,
          told: sum.told + before.rule.packets,
        });
      }
      before = prefix === undefined ? undefined : { prefix, rule };
    }
  }
  return found;
}
