import { contains, familyOf, hostCidr, parseCidr, parseIp } from '../../model/address.ts';
import type { Check, Finding } from './facts.ts';
import { cluster, failure, ok, warning } from './judge.ts';

/* What the datastore holds for the whole cluster. Pure. */

export const clusterChecks: Readonly<Record<string, Check>> = {
  datastore: ({ cluster: found }) =>
    found.known
      ? [
          found.value.milliseconds < 1000
            ? ok('datastore', `answers within ${Math.ceil(found.value.milliseconds)} ms`)
            : warning(
                'datastore',
                `took ${Math.ceil(found.value.milliseconds)} ms to answer`,
                'check the disks and the load of the datastore',
              ),
        ]
      : [failure('datastore', found.reason, 'check ETCD_ENDPOINTS or KUBECONFIG, and that the datastore runs')],
  'datastore-lock': (facts) =>
    cluster(facts, 'datastore-lock', ({ locked }) =>
      locked
        ? [
            failure(
              'datastore-lock',
              'the datastore is locked for a migration: no pod can start',
              'finish it: margayctl datastore migrate unlock',
            ),
          ]
        : [],
    ),
  pools: (facts) =>
    cluster(facts, 'pools', ({ pools }) => {
      const enabled = pools.filter(({ disabled }) => !disabled);
      if (enabled.length === 0)
        return [failure('pools', 'there is no enabled IPPool: no pod gets an address', 'make one: margayctl apply')];
      const full = enabled.flatMap(({ pool, total, free }): Finding[] => {
        const detail = `${free} of ${total} addresses of ${pool} are free`;
        const fix = 'add a pool: addresses of a block that a node owns do not go to other nodes for ever';
        if (free === '0') return [failure('pools', detail, fix)];
        return BigInt(free) * 10n < BigInt(total) ? [warning('pools', detail, fix)] : [];
      });
      return full.length > 0 ? full : [ok('pools', `${enabled.length} pools have free addresses`)];
    }),
  'pool-overlap': (facts) =>
    cluster(facts, 'pool-overlap', ({ pools, nodes }) => {
      const found: Finding[] = [];
      for (const [at, one] of pools.entries())
        for (const other of pools.slice(at + 1))
          if (overlap(one.cidr, other.cidr))
            found.push(
              failure(
                'pool-overlap',
                `pools ${one.pool} (${one.cidr}) and ${other.pool} (${other.cidr}) overlap`,
                'delete one: an address could be given twice',
              ),
            );
      for (const { metadata, spec } of nodes)
        for (const { pool, cidr } of pools) {
          const address = spec.bgp?.ipv4Address?.split('/')[0];
          if (address && overlap(cidr, hostCidr(parseIp(address))))
            found.push(
              failure(
                'pool-overlap',
                `the address ${address} of node ${metadata.name} lies in pool ${pool}`,
                'take a pool that the fabric does not use',
              ),
            );
        }
      return found;
    }),
  ipam: (facts) =>
    cluster(facts, 'ipam', ({ audit }) => {
      const [first] = audit.findings;
      if (!first) return [ok('ipam', `${audit.addresses} addresses are held, none wrongly`)];
      const detail = `${audit.findings.length} contradictions, for example ${first.problem}: ${first.subject}`;
      return [warning('ipam', detail, 'see margayctl ipam check, which names the repair of each')];
    }),
};

function overlap(a: string, b: string): boolean {
  const [one, other] = [parseCidr(a), parseCidr(b)];
  if (familyOf(one) !== familyOf(other)) return false;
  return contains(one, other) || contains(other, one);
}
