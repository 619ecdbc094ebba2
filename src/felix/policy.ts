import type { Log } from '../base/log.ts';
import { type Entry, type Event, keyText } from '../datastore/store.ts';
import { type Family, familyOf, type Ip, parseCidr } from '../model/address.ts';
import type { HostEndpoint, WorkloadEndpoint } from '../model/kinds.ts';
import { refuses, type Surroundings } from '../policy/cut.ts';
import type { Devices } from '../policy/endpoint.ts';
import type { NodePolicy, TierPolicies } from '../policy/ir.ts';
import type { LabelStats } from '../policy/labels.ts';
import { PolicyIndex } from '../policy/policy-index.ts';
import { parseFailsafe } from '../policy/render/failsafe.ts';
import { endpointChainName } from '../policy/render/names.ts';
import { defaultRenderOptions, type Filter, FilterRenderer } from '../policy/render.ts';
import type { PolicySource } from './calc/policy-source.ts';
import type { FelixConfig } from './config.ts';

type RenderConfig = Pick<
  FelixConfig,
  | 'interfacePrefix'
  | 'endpointToHost'
  | 'vxlanPort'
  | 'udpTunnelPort'
  | 'establishedFlows'
  | 'failsafeInbound'
  | 'failsafeOutbound'
  | 'verdictLogs'
  | 'allowVxlan'
  | 'allowIpip'
  | 'passInvalid'
  | 'logPrefix'
>;

/** What is of a node besides its policy. */
type NodeFacts = Omit<Surroundings, 'deviceOf'>;

function factsOf({
  interfacePrefix,
  vxlanPort,
  udpTunnelPort,
  failsafeInbound,
  failsafeOutbound,
}: RenderConfig): NodeFacts {
  return {
    interfacePrefix,
    tunnelPorts: new Set([vxlanPort, udpTunnelPort]),
    failsafes: {
      inbound: parseFailsafe(failsafeInbound, 'failsafeInboundHostPorts'),
      outbound: parseFailsafe(failsafeOutbound, 'failsafeOutboundHostPorts'),
    },
  };
}

/** @param telling whether the kernel has what rules that tell of verdicts need */
function rendererOf(
  { interfacePrefix, endpointToHost, vxlanPort, ...config }: RenderConfig,
  telling: boolean,
): FilterRenderer {
  return new FilterRenderer({
    ...defaultRenderOptions,
    interfacePrefix,
    endpointToHost,
    vxlanPort,
    allowVxlanFromWorkloads: config.allowVxlan,
    allowIpipFromWorkloads: config.allowIpip,
    dropInvalid: !config.passInvalid,
    logPrefix: config.logPrefix,
    dropMidstream: config.establishedFlows === 'cut',
    verdictLogs: {
      denied: telling && config.verdictLogs !== 'none',
      allowed: telling && config.verdictLogs === 'all',
    },
    failsafeInbound: parseFailsafe(config.failsafeInbound, 'failsafeInboundHostPorts'),
    failsafeOutbound: parseFailsafe(config.failsafeOutbound, 'failsafeOutboundHostPorts'),
  });
}

/**
 * The policy compiler and its renderer as one source of the calculation. A family's table holds only the endpoints that
 * have an address of it: nothing passes an unknown device, and a pod without IPv6 then costs no IPv6 restore.
 */
export class RenderedPolicy implements PolicySource {
  readonly #index: PolicyIndex;
  #renderer: FilterRenderer;
  #facts: NodeFacts;
  /** Local endpoints' families by key. */
  readonly #families = new Map<string, ReadonlySet<Family>>();
  readonly #parts = new Map<Family, NodePolicy>();
  /** Endpoints whose chains have been given their names. */
  #named: NodePolicy['endpoints'] | undefined;

  constructor(
    private readonly node: string,
    config: RenderConfig,
    log: Log,
    private readonly telling = true,
  ) {
    this.#index = new PolicyIndex(node, log);
    this.#renderer = rendererOf(config, telling);
    this.#facts = factsOf(config);
  }

  configure(config: RenderConfig): void {
    this.#renderer = rendererOf(config, this.telling);
    this.#facts = factsOf(config);
  }

  apply(event: Event): void {
    this.#index.apply(event);
    const key = event.op === 'delete' ? event.key : event.entry.key;
    if (key.type === 'HostEndpoint') this.#hostEndpoint(keyText(key), event);
    if (key.type !== 'WorkloadEndpoint') return;
    const spec = event.op === 'set' ? (event.entry.value as WorkloadEndpoint).spec : undefined;
    if (spec?.node === this.node)
      this.#families.set(keyText(key), new Set(spec.ipNetworks.map((net) => familyOf(parseCidr(net)))));
    else this.#families.delete(keyText(key));
  }

  setDevices(devices: Devices): void {
    this.#index.setDevices(devices);
  }

  /** Of this node's devices, which have both families. */
  #hostEndpoint(key: string, event: Event): void {
    if (event.op === 'invalid') return;
    const local = event.op === 'set' && (event.entry.value as HostEndpoint).spec.node === this.node;
    if (local) this.#families.set(key, new Set<Family>([4, 6]));
    else this.#families.delete(key);
  }

  announce(entry: Entry<'WorkloadEndpoint'>, families: readonly Family[]): void {
    this.#index.apply({ op: 'set', entry });
    this.#families.set(keyText(entry.key), new Set(families));
  }

  /** The same object again as long as policy did not change. */
  snapshot(): NodePolicy {
    return this.#index.snapshot();
  }

  /**
   * Which connections policy would refuse if they were new.
   * @param own addresses of the node
   * @param deviceOf as in `Surroundings`
   */
  refuses(own: ReadonlySet<Ip>, deviceOf: Surroundings['deviceOf']): ReturnType<typeof refuses> {
    return refuses(this.#index.snapshot(), this.#index.localAddresses(), own, { ...this.#facts, deviceOf });
  }

  *prepare(): Generator<void> {
    const { endpoints } = this.#index.snapshot();
    if (endpoints === this.#named) return;
    yield;
    this.#named = endpoints;
    for (const endpoint of endpoints.values()) {
      if (endpoint.host) continue;
      for (const direction of ['ingress', 'egress'] as const) endpointChainName(endpoint, direction);
      yield;
    }
  }

  filter(family: Family): Filter {
    const part = this.#part(this.#index.snapshot(), family);
    const last = this.#parts.get(family);
    const kept = last && sameParts(last, part) ? last : part;
    this.#parts.set(family, kept);
    return this.#renderer.render(kept, family);
  }

  problems() {
    return this.#index.problems();
  }

  /** Of the selectors of rules that local endpoints are subject to. */
  labelStats(): LabelStats {
    return this.#index.labelStats;
  }

  activePolicies(): number {
    return [...this.#index.snapshot().policies.values()].filter(({ staged }) => !staged).length;
  }

  /** The endpoints that have an address of the family, and what they refer to. */
  #part(all: NodePolicy, family: Family): NodePolicy {
    const { endpoints, policies, profiles, sets } = all;
    if (endpoints.size > 0 && [...endpoints.keys()].every((key) => this.#families.get(key)?.has(family))) return all;
    const own = new Map([...endpoints].filter(([key]) => this.#families.get(key)?.has(family)));
    const named = new Set<string>();
    for (const { tiers, host } of own.values())
      for (const { ingress, egress, staged } of [
        ...tiers,
        ...(host ? [...host.forward, ...host.untracked, ...host.preDnat] : []),
      ])
        for (const name of [...ingress, ...egress, ...stagedNames(staged)]) named.add(name);
    const inherited = new Set([...own.values()].flatMap((endpoint) => endpoint.profiles));
    return {
      endpoints: own,
      policies: new Map([...policies].filter(([name]) => named.has(name))),
      profiles: new Map([...profiles].filter(([name]) => inherited.has(name))),
      sets: own.size > 0 ? sets : new Map(),
    };
  }
}

function stagedNames(staged: TierPolicies['staged']): string[] {
  return staged ? [...staged.ingress, ...staged.egress].map(({ policy }) => policy) : [];
}

/** Whether both hold the same objects. */
function sameParts(a: NodePolicy, b: NodePolicy): boolean {
  return (
    sameMap(a.endpoints, b.endpoints) &&
    sameMap(a.policies, b.policies) &&
    sameMap(a.profiles, b.profiles) &&
    sameMap(a.sets, b.sets)
  );
}

function sameMap<K, V>(a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>): boolean {
  if (a === b) return true;
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (b.get(key) !== value) return false;
  return true;
}
