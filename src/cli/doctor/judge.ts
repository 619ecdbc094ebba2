import type { ClusterFacts, Facts, Finding, Known, NetworkFacts } from './facts.ts';

/* What checks are made of. Pure. */

export function ok(check: string, detail: string): Finding {
  return { check, level: 'ok', detail };
}

export function warning(check: string, detail: string, fix: string): Finding {
  return { check, level: 'warning', detail, fix };
}

export function failure(check: string, detail: string, fix: string): Finding {
  return { check, level: 'failure', detail, fix };
}

export function expectsBgp({ felix }: Facts): boolean {
  return !felix.running || felix.status.bgp;
}

export function known<T>(facts: Known<T>, check: string, judge: (value: T) => readonly Finding[]): readonly Finding[] {
  return facts.known ? judge(facts.value) : [{ check, level: 'unknown', detail: facts.reason }];
}

/** Silent where the datastore is not known: the check named `datastore` says so once. */
export function cluster({ cluster: found }: Facts, check: string, judge: (value: ClusterFacts) => readonly Finding[]) {
  return found.known ? known(found, check, judge) : [];
}

export function both(
  facts: Facts,
  check: string,
  judge: (cluster: ClusterFacts, network: NetworkFacts) => readonly Finding[],
): readonly Finding[] {
  return cluster(facts, check, (one) => known(facts.network, check, (other) => judge(one, other)));
}
