import type { ClusterFacts, Facts, Finding, Known, NetworkFacts } from './facts.ts';

/* What checks are made of. Pure. */

/** @param check name of the check, by which findings are told apart in `-o json` */
export function ok(check: string, detail: string): Finding {
  return { check, level: 'ok', detail };
}

/** Something that may do harm. @param fix what to do about it */
export function warning(check: string, detail: string, fix: string): Finding {
  return { check, level: 'warning', detail, fix };
}

/** Something that does not work; the doctor ends with 1. @param fix what to do about it */
export function failure(check: string, detail: string, fix: string): Finding {
  return { check, level: 'failure', detail, fix };
}

/** Whether a speaker should run here; while felix does not answer, which would know, yes. */
export function expectsBgp({ felix }: Facts): boolean {
  return !felix.running || felix.status.bgp;
}

/** What a judge finds in a fact, or that it is not known and why. */
export function known<T>(facts: Known<T>, check: string, judge: (value: T) => readonly Finding[]): readonly Finding[] {
  return facts.known ? judge(facts.value) : [{ check, level: 'unknown', detail: facts.reason }];
}

/** Silent where the datastore is not known: the check named `datastore` says so once. */
export function cluster({ cluster: found }: Facts, check: string, judge: (value: ClusterFacts) => readonly Finding[]) {
  return found.known ? known(found, check, judge) : [];
}

/** As `cluster`, for checks that hold the datastore against this host's network. */
export function both(
  facts: Facts,
  check: string,
  judge: (cluster: ClusterFacts, network: NetworkFacts) => readonly Finding[],
): readonly Finding[] {
  return cluster(facts, check, (one) => known(facts.network, check, (other) => judge(one, other)));
}
