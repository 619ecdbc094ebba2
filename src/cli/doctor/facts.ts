import type { PeerStatus } from '../../bgp/peer-status.ts';
import type { FelixStatus } from '../../felix/status.ts';
import type { Audit } from '../../ipam/audit.ts';
import type { PoolUsage } from '../../ipam/audit-usage.ts';
import type { Backend } from '../../kernel/iptables/backend.ts';
import type { AddressOnLink, Link } from '../../kernel/types.ts';
import type { Node } from '../../model/kinds.ts';
import type { Answer, BgpStatus } from '../local.ts';

/* What the doctor looks at. Each part may be unknown by itself; the others are judged all the same. */

export type Known<T> = { readonly known: true; readonly value: T } | { readonly known: false; readonly reason: string };

export interface Facts {
  readonly node: string;
  readonly now: Date;
  readonly felix: Answer<FelixStatus>;
  readonly bgp: Answer<BgpStatus>;
  readonly peers: readonly PeerStatus[];
  readonly cluster: Known<ClusterFacts>;
  readonly network: Known<NetworkFacts>;
  /** By path below /proc/sys. */
  readonly sysctls: Known<ReadonlyMap<string, string>>;
  readonly firewall: Known<Readonly<Record<Backend, RuleCounts>>>;
  readonly processes: Known<ProcessFacts>;
  readonly cni: Known<CniFacts>;
  readonly disks: Known<readonly DiskFacts[]>;
}

export interface ClusterFacts {
  /** A read took so long. */
  readonly milliseconds: number;
  /** ClusterInformation says that nothing may be written. */
  readonly locked: boolean;
  readonly nodes: readonly Node[];
  readonly pools: readonly PoolUsage[];
  readonly audit: Audit;
}

export interface NetworkFacts {
  readonly links: readonly Link[];
  readonly addresses: readonly AddressOnLink[];
}

/** Chains of one iptables backend, all tables of IPv4. */
export interface RuleCounts {
  /** `cali-…` */
  readonly ours: number;
  /** `KUBE-…` */
  readonly kube: number;
}

export interface ProcessFacts {
  /** Names of the processes that listen on TCP port 179. */
  readonly bgpListeners: readonly string[];
  /** Programs of other pod networks that run on the host. */
  readonly others: readonly string[];
}

export interface CniFacts {
  readonly confDir: string;
  readonly binDir: string;
  /** Network configurations in the order in which a runtime takes them; a runtime uses the first. */
  readonly configurations: readonly { readonly file: string; readonly types: readonly string[] | undefined }[];
  /** The plugin's executable is there. */
  readonly plugin: boolean;
  /** Where the plugin seeks the agent. */
  readonly socket?: string;
  /** The socket is there. */
  readonly served: boolean;
  /** Where the agent serves it. */
  readonly expectedSocket: string;
  /** DELs that wait for the agent. */
  readonly waiting: number;
  /** The kubeconfig that lies beside the configurations, and when its token ends. */
  readonly token?: { readonly file: string; readonly expires: Date };
}

export interface DiskFacts {
  readonly directory: string;
  /** 0 to 1. */
  readonly free: number;
  readonly writable: boolean;
}

/** What one check says. */
export interface Finding {
  /** `bgp-sessions` */
  readonly check: string;
  readonly level: 'ok' | 'warning' | 'failure' | 'unknown';
  readonly detail: string;
  /** What to do about it. */
  readonly fix?: string;
}

/** A check looks at the facts and says nothing, one thing or several. */
export type Check = (facts: Facts) => readonly Finding[];
