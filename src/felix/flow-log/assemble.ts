import type { Registry } from 'prom-client';
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Consumer } from '../../datastore/update.ts';
import type { Backend } from '../../kernel/iptables/backend.ts';
import { readChain, readCounters } from '../../kernel/iptables/counters.ts';
import { openNflog } from '../../kernel/nflog-socket.ts';
import { sendProbe } from '../../kernel/probe.ts';
import type { Netlink } from '../../kernel/types.ts';
import type { Family, Ip } from '../../model/address.ts';
import type { NodePolicy } from '../../policy/ir.ts';
import { verdictGroup } from '../../policy/render/verdict.ts';
import type { View } from '../control.ts';
import { ClusterMirror } from '../explain/mirror.ts';
import { podNamespace } from '../explain/pod-namespace.ts';
import { type ProbeOptions, probeView } from '../explain/probe.ts';
import { type ExplainOptions, explainView } from '../explain/view.ts';
import { stagedCounts, stagedTables } from '../staged.ts';
import { DeniedPackets, DeniedReader } from './denied.ts';
import { FlowLog } from './log.ts';
import { registerStaged, registerVerdicts } from './metrics.ts';
import { VerdictPlaces } from './places.ts';
import { type FlowList, flowsView } from './serve.ts';

export interface VerdictOptions {
  readonly node: string;
  readonly policy: () => NodePolicy;
  /** What the rules tell of now. */
  readonly telling: () => FlowList['telling'];
  readonly backend: Backend;
  readonly families: readonly Family[];
  /** Of the node. */
  readonly netlink: Netlink;
  readonly clock: Clock;
  readonly log: Log;
}

/** What felix shows of verdicts: views of its control socket, metrics, and what keeps them going. */
export interface Verdicts {
  readonly log: FlowLog;
  /** The cluster's objects, for whoever counts them. */
  readonly mirror: Pick<ClusterMirror, 'counts'>;
  readonly consume: Consumer;
  readonly views: Readonly<Record<string, View>>;
  readonly register: (registry: Registry) => void;
  /** To be called after each pass. */
  readonly passed: () => void;
}

/** That the process is in. */
const ownNamespace = '/proc/self/ns/net';

/** With the real drivers, for the network namespace that the process is in. */
export function assembleVerdicts({
  node,
  policy,
  telling,
  backend,
  families,
  netlink,
  clock,
  log,
}: VerdictOptions): Verdicts {
  const mirror = new ClusterMirror();
  const places = new VerdictPlaces(policy);
  const podAt = (address: Ip) => mirror.podAt(address);
  const wanted = () => telling() !== 'none';
  const flows = new FlowLog({ open: () => openNflog(verdictGroup), wanted, places, podAt, clock, log });
  const read = async () =>
    new Map(
      await Promise.all(families.map(async (family) => [family, await readCounters({ family, backend })] as const)),
    );
  const staged = async () => {
    const now = policy();
    const tables = stagedTables(now);
    const chainsOf = async (family: Family) => {
      const all = await Promise.all(tables.map((table) => readCounters({ family, backend, table })));
      return [family, new Map(all.flatMap((counters) => [...counters]))] as const;
    };
    return tables.length === 0 ? [] : stagedCounts(now, new Map(await Promise.all(families.map(chainsOf))));
  };
  const denied = new DeniedReader(new DeniedPackets(places), read, log);
  const rulesOf: ExplainOptions['rulesOf'] = (chain, family, table) => readChain(chain, { family, backend, table });
  const explaining = { node, mirror, policy, rulesOf };
  const send: ProbeOptions['send'] = async (device, request, signal) =>
    sendProbe(device === undefined ? ownNamespace : podNamespace(device, netlink), request, clock, signal);
  let looked = false;
  return {
    log: flows,
    mirror,
    consume: (update) => mirror.consume(update),
    views: {
      '/v1/flows': flowsView(flows, telling, denied),
      '/v1/explain': explainView(explaining),
      '/v1/staged': staged,
      'POST /v1/probe': probeView({ ...explaining, flows, send, clock }),
    },
    register: (registry) => {
      registerVerdicts(registry, denied, flows);
      registerStaged(registry, staged, log);
    },
    // The first look is what later ones are measured by.
    passed: () => {
      if (looked || !wanted()) return;
      looked = true;
      void denied.totals();
    },
  };
}
