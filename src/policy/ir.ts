import type { SetType } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';

/*
 * The intermediate form between policy objects and a dataplane: ordered rules and IP sets per endpoint. It knows
 * nothing of iptables. The renderer prints it, `explain` and the property tests evaluate it.
 */

/** Name of an IP set independent of family; renderer and ipset driver derive the kernel's name from it. */
export type SetId = string & { readonly brand: 'SetId' };

export interface IpSet {
  readonly id: SetId;
  readonly type: SetType;
  /** What it stands for, for people: a selector in canonical form. */
  readonly description: string;
  /** Members of both families: `10.0.0.1/32`, `fd00::1/128`; `10.0.0.1,tcp:80` for hash:ip,port. */
  readonly members: ReadonlySet<string>;
}

/** Inclusive. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** All present conditions must hold; lists hold if one element does, `not…` lists if none does. */
export interface Match {
  readonly family?: Family;
  /** IP protocol number. */
  readonly protocol?: number;
  readonly notProtocol?: number;
  readonly icmp?: { readonly type: number; readonly code?: number };
  readonly notIcmp?: { readonly type: number; readonly code?: number };
  readonly sourceNets?: readonly string[];
  readonly notSourceNets?: readonly string[];
  readonly destinationNets?: readonly string[];
  readonly notDestinationNets?: readonly string[];
  /** Every one of these sets must hold the address. */
  readonly sourceSets?: readonly SetId[];
  readonly notSourceSets?: readonly SetId[];
  readonly destinationSets?: readonly SetId[];
  readonly notDestinationSets?: readonly SetId[];
  readonly sourcePorts?: readonly PortRange[];
  readonly notSourcePorts?: readonly PortRange[];
  readonly destinationPorts?: readonly PortRange[];
  readonly notDestinationPorts?: readonly PortRange[];
  /** hash:ip,port sets of named ports; alternatives to `destinationPorts` (or `sourcePorts`): one of all must hold. */
  readonly destinationPortSets?: readonly SetId[];
  readonly sourcePortSets?: readonly SetId[];
  readonly notDestinationPortSets?: readonly SetId[];
  readonly notSourcePortSets?: readonly SetId[];
}

export interface Rule {
  readonly action: 'allow' | 'deny' | 'log' | 'pass';
  readonly match: Match;
  /** Index of the rule in its policy, as written; rules that stand for one share it. */
  readonly index: number;
  /** What the author calls it. */
  readonly name?: string;
}

/** Before connection tracking, and before the destination is translated. */
export type EarlyStage = 'untracked' | 'preDnat';

/** A policy's or profile's rules in both directions. */
export interface PolicyRules {
  /** `shop/knp.default.allow-web`, `kns.shop`. */
  readonly name: string;
  /** As a person wrote it, for explain: `NetworkPolicy shop/allow-web`. */
  readonly title: string;
  /** Of policies for host endpoints alone. */
  readonly stage?: EarlyStage;
  /** Of a staged policy: its matches are counted, and decide nothing. */
  readonly staged?: true;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

export interface TierPolicies {
  readonly tier: string;
  readonly defaultAction: 'deny' | 'pass';
  /** Names of policies that apply, in order; empty: the tier does not isolate this direction. */
  readonly ingress: readonly string[];
  readonly egress: readonly string[];
  readonly staged?: { readonly ingress: readonly StagedPlace[]; readonly egress: readonly StagedPlace[] };
}

/** A staged policy, and how many of the tier's policies in the direction come before it. */
export interface StagedPlace {
  readonly policy: string;
  readonly after: number;
}

/** What one local endpoint is subject to. */
export interface EndpointPolicy {
  /** Key of the endpoint: `Key` text of its WorkloadEndpoint. */
  readonly endpoint: string;
  readonly interfaceName: string;
  readonly tiers: readonly TierPolicies[];
  /** Names of profiles in order; one that is missing denies. */
  readonly profiles: readonly string[];
  readonly host?: HostPolicy;
}

/**
 * What a host endpoint has besides `tiers`, which are for the host's own traffic. In the early stages no tier ends what
 * none of its rules decides.
 */
export interface HostPolicy {
  /** The device of its name, or those that have an expected address; `*`: every one that no other stands for. */
  readonly devices: readonly string[];
  /** For what the host forwards. */
  readonly forward: readonly TierPolicies[];
  readonly untracked: readonly TierPolicies[];
  readonly preDnat: readonly TierPolicies[];
}

/** The whole node's policy: everything that local endpoints refer to and nothing else. */
export interface NodePolicy {
  readonly endpoints: ReadonlyMap<string, EndpointPolicy>;
  readonly policies: ReadonlyMap<string, PolicyRules>;
  readonly profiles: ReadonlyMap<string, PolicyRules>;
  readonly sets: ReadonlyMap<SetId, IpSet>;
}
