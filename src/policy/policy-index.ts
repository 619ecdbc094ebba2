import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Event, type Key, keyText } from '../datastore/store.ts';
import { cidrParts, type Ip } from '../model/address.ts';
import type {
  EndpointSlice,
  GlobalNetworkSet,
  HostEndpoint,
  NetworkSet,
  Node,
  Profile,
  Tier,
  WorkloadEndpoint,
} from '../model/kinds.ts';
import { compilePolicy } from './compile.ts';
import {
  type Devices,
  devicesOf,
  type Endpoint,
  effectiveLabels,
  endpointOf,
  hostEndpointOf,
  type Labelled,
} from './endpoint.ts';
import type { EndpointPolicy, NodePolicy } from './ir.ts';
import type { LabelStats } from './labels.ts';
import { SetTable } from './members.ts';
import { networkSetOf } from './network-set.ts';
import { nodeOf } from './node.ts';
import { PolicyTable } from './policies.ts';
import { ProfileTable } from './profiles.ts';
import { RelativePolicies, related, relationKeys, restricted } from './relative.ts';
import type { AnyPolicy } from './scope.ts';
import { serviceEndpointsOf } from './service.ts';
import { compileStaged, type StagedPolicy } from './staged.ts';
import { builtInTiers, TierTable } from './tiers.ts';
import { unreadablePolicy } from './unreadable.ts';

/** Something wrong in a stored object, and what is done instead is always stricter. */
export interface PolicyProblem {
  readonly key: string;
  readonly error: Error;
}

/**
 * Policy of one node: takes the events of workload endpoints, profiles, tiers, policies, network sets, nodes and
 * EndpointSlices in any order, and gives what local endpoints are subject to. The result depends on the objects that exist, never on how they came.
 * Work is proportional to what a change touches; parts of the snapshot that did not change keep their identity.
 */
export class PolicyIndex {
  readonly #sets = new SetTable();
  readonly #profiles = new ProfileTable(this.#sets);
  readonly #dirty = new Set<string>();
  readonly #tiers = new TierTable();
  readonly #policies = new PolicyTable(this.#sets, this.#tiers, (endpoint) => this.#dirty.add(endpoint));
  /** Policies whose rules depend on the labels of what they select, by key, with these labels. */
  readonly #relative = new Map<string, { readonly policy: AnyPolicy; readonly keys: readonly string[] }>();
  readonly #combinations = new RelativePolicies(
    (text, values) => this.#setRelated(text, values),
    (text, values) => this.#policies.delete(relatedKey(text, values)),
  );
  /** Policies of tiers that may come and go, by key. */
  readonly #tiered = new Map<string, AnyPolicy>();
  readonly #staged = new Map<string, StagedPolicy>();
  readonly #endpoints = new Map<string, Endpoint>();
  /** Network sets, global ones too. */
  readonly #nets = new Map<string, Labelled>();
  /** Profile → endpoints and network sets that inherit from it. */
  readonly #heirs = new Map<string, Set<string>>();
  readonly #problems = new Map<string, readonly Error[]>();
  #devices: Devices = new Map();
  #endpointPolicies: ReadonlyMap<string, EndpointPolicy> = new Map();
  #snapshot: NodePolicy | undefined;

  constructor(
    private readonly node: string,
    private readonly log: Log,
  ) {}

  /** Kinds that have no part in policy are ignored. */
  apply(event: Event): void {
    const key = event.op === 'delete' ? event.key : event.entry.key;
    const text = keyText(key);
    switch (key.type) {
      case 'WorkloadEndpoint':
        this.#setEndpoint(
          text,
          event.op === 'set' ? endpointOf(text, event.entry.value as WorkloadEndpoint) : undefined,
        );
        break;
      case 'HostEndpoint':
        // One that cannot be read stays as it was: without it the host would be open.
        if (event.op !== 'invalid')
          this.#setEndpoint(
            text,
            event.op === 'set' ? hostEndpointOf(text, event.entry.value as HostEndpoint) : undefined,
          );
        break;
      case 'Profile':
        this.#setProfile(text, key.name, event.op === 'set' ? (event.entry.value as Profile) : undefined);
        break;
      case 'NetworkPolicy':
      case 'GlobalNetworkPolicy':
        this.#setPolicy(text, key, event);
        break;
      case 'StagedNetworkPolicy':
      case 'StagedGlobalNetworkPolicy':
      case 'StagedKubernetesNetworkPolicy':
        this.#setStaged(text, event.op === 'set' ? (event.entry.value as StagedPolicy) : undefined);
        break;
      case 'Tier':
        this.#setTier(text, key.name, event.op === 'set' ? (event.entry.value as Tier) : undefined);
        break;
      case 'NetworkSet':
      case 'GlobalNetworkSet':
        this.#setNets(text, key, event);
        break;
      case 'Node':
      case 'EndpointSlice':
        this.#setPeer(text, event);
        return;
      default:
        return;
    }
    if (event.op === 'invalid') this.#report(text, [event.entry.error]);
    else if (event.op === 'delete') this.#report(text, []);
  }

  /** Of the selectors of rules, and what they are tried on. */
  get labelStats(): LabelStats {
    return this.#sets.stats;
  }

  snapshot(): NodePolicy {
    const parts = {
      endpoints: this.#endpointSnapshot(),
      policies: this.#policies.snapshot(),
      profiles: this.#profiles.snapshot(),
      sets: this.#sets.snapshot(),
    };
    const last = this.#snapshot;
    const same =
      last?.endpoints === parts.endpoints &&
      last.policies === parts.policies &&
      last.profiles === parts.profiles &&
      last.sets === parts.sets;
    if (!last || !same) this.#snapshot = parts;
    return last && same ? last : parts;
  }

  /** The node's own devices with their addresses, by which host endpoints without a device's name find theirs. */
  setDevices(devices: Devices): void {
    this.#devices = devices;
    for (const { key, host, interfaceName } of this.#endpoints.values())
      if (host && interfaceName === '') this.#dirty.add(key);
  }

  /** Endpoints of this node by their addresses. */
  localAddresses(): ReadonlyMap<Ip, string> {
    const local = [...this.#endpoints.values()].filter(({ node, host }) => node === this.node && !host);
    return new Map(
      local.flatMap(({ key, facts }) => facts.addresses.map((cidr) => [cidrParts(cidr).address, key] as const)),
    );
  }

  /** What is wrong in the stored objects, by key. */
  problems(): readonly PolicyProblem[] {
    const stored = [...this.#problems].flatMap(([key, errors]) => errors.map((error) => ({ key, error })));
    return [...stored, ...this.#duplicates()];
  }

  #setEndpoint(key: string, after: Endpoint | undefined): void {
    const before = this.#endpoints.get(key);
    if (after) this.#endpoints.set(key, after);
    else this.#endpoints.delete(key);
    this.#inherit(before, after);
    const local = after?.node === this.node;
    if (local) for (const profile of after.profiles) this.#profiles.retain(profile);
    if (before?.node === this.node) for (const profile of before.profiles) this.#profiles.release(profile);
    if (!local) {
      this.#policies.deleteEndpoint(key);
      this.#combinations.deleteEndpoint(key);
    }
    if (after) this.#relabel(after);
    else this.#sets.delete('endpoints', key);
    if (local || before?.node === this.node) this.#dirty.add(key);
    if (after) this.#report(key, []);
  }

  #relabel(endpoint: Endpoint): void {
    const labels = effectiveLabels(endpoint, (profile) => this.#profiles.labels(profile));
    this.#sets.set('endpoints', endpoint.key, labels, endpoint.facts);
    if (endpoint.node !== this.node) return;
    this.#combinations.setEndpoint(endpoint.key, labels);
    this.#policies.setEndpoint(endpoint.key, labels);
  }

  #inherit(before: Labelled | undefined, after: Labelled | undefined): void {
    for (const profile of before?.profiles ?? []) {
      const heirs = this.#heirs.get(profile);
      heirs?.delete(before?.key ?? '');
      if (heirs?.size === 0) this.#heirs.delete(profile);
    }
    for (const profile of after?.profiles ?? []) {
      const heirs = this.#heirs.get(profile) ?? new Set();
      this.#heirs.set(profile, heirs.add(after?.key ?? ''));
    }
  }

  #setProfile(key: string, name: string, value: Profile | undefined): void {
    if (value) this.#report(key, this.#profiles.set(name, value).problems);
    else this.#profiles.delete(name);
    for (const heir of this.#heirs.get(name) ?? []) {
      const endpoint = this.#endpoints.get(heir);
      const nets = this.#nets.get(heir);
      if (endpoint) this.#relabel(endpoint);
      else if (nets) this.#relabelNets(nets);
    }
  }

  #setPolicy(text: string, key: Key<'NetworkPolicy'> | Key<'GlobalNetworkPolicy'>, event: Event): void {
    this.#tiered.delete(text);
    this.#combinations.delete(text);
    this.#relative.delete(text);
    if (event.op === 'delete') this.#policies.delete(text);
    else if (event.op === 'invalid') this.#policies.set(text, unreadablePolicy(key, event.entry.value));
    else this.#compile(text, event.entry.value as AnyPolicy);
  }

  #compile(text: string, policy: AnyPolicy): void {
    if (!builtInTiers.has(policy.spec.tier ?? 'default')) this.#tiered.set(text, policy);
    const compiled = compilePolicy(policy, (tier) => this.#tiers.has(tier));
    this.#report(text, compiled.problems);
    const keys = relationKeys(policy);
    if (keys.length === 0) {
      this.#policies.set(text, compiled);
      return;
    }
    this.#policies.delete(text);
    this.#relative.set(text, { policy, keys });
    this.#combinations.set(text, keys);
  }

  #setRelated(text: string, values: readonly (string | undefined)[]): void {
    const found = this.#relative.get(text);
    if (!found) return;
    const { policy, keys } = found;
    const compiled = compilePolicy(related(policy, keys, values), (tier) => this.#tiers.has(tier));
    if (compiled.problems.length > 0) this.#report(text, compiled.problems);
    this.#policies.set(relatedKey(text, values), restricted(compiled, keys, values));
  }

  /** What is wrong in one decides nothing, and is reported. */
  #setStaged(text: string, staged: StagedPolicy | undefined): void {
    if (!staged) {
      this.#staged.delete(text);
      this.#policies.delete(text);
      return;
    }
    this.#staged.set(text, staged);
    try {
      const compiled = compileStaged(staged, (tier) => this.#tiers.has(tier));
      if (compiled) this.#policies.set(text, compiled);
      else this.#policies.delete(text);
      this.#report(text, compiled?.problems ?? []);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      this.#policies.delete(text);
      this.#report(text, [thrown]);
    }
  }

  /** A tier that comes or goes changes what its policies mean; one that moves, their place at every endpoint. */
  #setTier(text: string, name: string, value: Tier | undefined): void {
    const before = this.#tiers.has(name);
    if (value) this.#report(text, this.#tiers.set(name, value));
    else this.#tiers.delete(name);
    if (before !== this.#tiers.has(name)) {
      for (const [key, policy] of this.#tiered) if (policy.spec.tier === name) this.#compile(key, policy);
      for (const [key, staged] of this.#staged) this.#setStaged(key, staged);
    }
    for (const key of this.#endpointPolicies.keys()) this.#dirty.add(key);
  }

  #setNets(text: string, key: Key<'NetworkSet'> | Key<'GlobalNetworkSet'>, event: Event): void {
    const before = this.#nets.get(text);
    const value = event.op === 'delete' ? undefined : event.entry.value;
    const after = event.op === 'delete' ? undefined : networkSetOf(text, key, value as NetworkSet | GlobalNetworkSet);
    this.#inherit(before, after);
    if (after) {
      this.#nets.set(text, after);
      this.#relabelNets(after);
    } else {
      this.#nets.delete(text);
      this.#sets.delete('endpoints', text);
    }
    if (event.op === 'set') this.#report(text, []);
  }

  /** Nodes and service endpoints. One that cannot be read stays: its addresses may be what a Deny rule closes. */
  #setPeer(text: string, event: Event): void {
    const { type } = event.op === 'delete' ? event.key : event.entry.key;
    const place = type === 'Node' ? 'nodes' : 'services';
    if (event.op === 'delete') this.#sets.delete(place, text);
    if (event.op !== 'set') return;
    const { value } = event.entry;
    const { labels, facts } = type === 'Node' ? nodeOf(value as Node) : serviceEndpointsOf(value as EndpointSlice);
    this.#sets.set(place, text, labels, facts);
  }

  #relabelNets(nets: Labelled): void {
    const labels = effectiveLabels(nets, (profile) => this.#profiles.labels(profile));
    this.#sets.set('endpoints', nets.key, labels, nets.facts);
  }

  #endpointSnapshot(): ReadonlyMap<string, EndpointPolicy> {
    if (this.#dirty.size === 0) return this.#endpointPolicies;
    const next = new Map(this.#endpointPolicies);
    let changed = false;
    for (const key of this.#dirty) {
      const endpoint = this.#endpoints.get(key);
      const before = next.get(key);
      const after = endpoint && this.#policyOf(endpoint);
      if (JSON.stringify(before) === JSON.stringify(after)) continue;
      changed = true;
      if (after) next.set(key, after);
      else next.delete(key);
    }
    this.#dirty.clear();
    if (changed) this.#endpointPolicies = next;
    return this.#endpointPolicies;
  }

  #policyOf(endpoint: Endpoint): EndpointPolicy | undefined {
    const { key, profiles } = endpoint;
    const devices = devicesOf(endpoint, this.#devices);
    const [interfaceName] = devices;
    if (endpoint.node !== this.node || interfaceName === undefined) return undefined;
    const tiers = this.#policies.tiersOf(key);
    if (!endpoint.host) return { endpoint: key, interfaceName, tiers, profiles };
    const [forward, untracked, preDnat] = (['forward', 'untracked', 'preDnat'] as const).map((stage) =>
      this.#policies.tiersOf(key, stage),
    );
    const host = { devices, forward: forward ?? [], untracked: untracked ?? [], preDnat: preDnat ?? [] };
    return { endpoint: key, interfaceName, tiers, profiles, host };
  }

  #duplicates(): PolicyProblem[] {
    const local = [...this.#endpoints.values()].filter(({ node }) => node === this.node);
    const claims = local.flatMap((endpoint) =>
      devicesOf(endpoint, this.#devices).map((device) => ({ device, key: endpoint.key })),
    );
    return [...Map.groupBy(claims, ({ device }) => device)].flatMap(([device, claimed]) =>
      claimed.length < 2
        ? []
        : claimed.map(({ key }) => ({
            key,
            error: new InputError('spec.interfaceName', device, 'an interface that no other endpoint of the node has'),
          })),
    );
  }

  #report(key: string, errors: readonly Error[]): void {
    if (errors.length === 0) {
      this.#problems.delete(key);
      return;
    }
    const known = this.#problems.get(key)?.map(({ message }) => message) ?? [];
    this.#problems.set(key, errors);
    if (errors.every(({ message }) => known.includes(message))) return;
    for (const error of errors) this.log.warn({ key, err: error }, 'invalid object: treated as more strict');
  }
}

/** Not the key of any object. */
function relatedKey(text: string, values: readonly (string | undefined)[]): string {
  return `${text} ${JSON.stringify(values)}`;
}
