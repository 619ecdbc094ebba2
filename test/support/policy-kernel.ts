import { createLog } from '../../src/base/log.ts';
import type { Event } from '../../src/datastore/store.ts';
import { createIpsets } from '../../src/kernel/ipset.ts';
import { createIptables } from '../../src/kernel/iptables/driver.ts';
import type { DesiredSet } from '../../src/kernel/types.ts';
import { parseIp } from '../../src/model/address.ts';
import { evaluate } from '../../src/policy/evaluate.ts';
import type { NodePolicy } from '../../src/policy/ir.ts';
import { PolicyIndex } from '../../src/policy/policy-index.ts';
import { defaultRenderOptions, type RenderOptions, renderFilter } from '../../src/policy/render.ts';
import { endpointEvent, endpointText, namespaceEvent, node } from './cluster.ts';
import type { Cluster, Pod } from './oracle.ts';
import { type Member, PodNetwork } from './pods.ts';

/** Ports on which every member answers. */
export const ports = [53, 80, 85, 8080];
export const vxlanPort = 4789;
const timeoutMs = 1000;

export const podMembers: readonly Member[] = [0, 1, 2].map((i) => ({
  name: `pod-${i}`,
  device: `calipod-${i}`,
  addresses: [`10.65.0.${i + 1}`, `fd00::${i + 1}`],
}));
export const outside: Member = { name: 'outside', device: 'uplink', addresses: ['192.0.2.130', 'fd00::8'] };

/** The three pods of the network, as the objects of a cluster without policies. */
export const plainPods: readonly Pod[] = podMembers.map(({ name, addresses }, i) => ({
  name,
  addresses,
  namespace: i === 2 ? 'two' : 'one',
  labels: { app: ['a', 'b', 'a'][i] ?? '' },
  ports: [{ name: 'web', protocol: 'TCP', port: i === 0 ? 80 : 8080 }],
}));
export const plain: Cluster = { namespaces: { one: { tier: 'x' }, two: {} }, pods: plainPods, policies: [] };

type Attempt = {
  readonly protocol: number;
  readonly destinationPort?: number;
  readonly icmp?: { type: number; code: number };
};

const numbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;
type Transport = keyof typeof numbers;

/** Rendered policy in the kernel of a network of pods and an outside host, three pods unless told. */
export class PolicyKernel {
  readonly #log = createLog('test', 'silent');
  readonly network: PodNetwork;
  readonly #ipsets;
  readonly #iptables;

  constructor(
    readonly backend: 'legacy' | 'nft',
    members: readonly Member[] = [...podMembers, outside],
  ) {
    this.network = new PodNetwork(members, [...ports, vxlanPort]);
    this.#ipsets = createIpsets({ log: this.#log, launcher: this.network.launcher });
    const common = { backend, log: this.#log, launcher: this.network.launcher };
    this.#iptables = { 4: createIptables({ family: 4, ...common }), 6: createIptables({ family: 6, ...common }) };
  }

  async load(policy: NodePolicy, options: RenderOptions = defaultRenderOptions): Promise<void> {
    const filters = { 4: renderFilter(policy, 4, options), 6: renderFilter(policy, 6, options) };
    const sets = new Map<string, DesiredSet>([...filters[4].sets, ...filters[6].sets]);
    await this.#ipsets.applyUpdates(sets);
    for (const family of [4, 6] as const) {
      const { table, early } = filters[family];
      await this.#iptables[family].apply(
        new Map([
          ['raw', early.raw],
          ['mangle', early.mangle],
          ['filter', table],
        ]),
      );
    }
    await this.#ipsets.applyDeletions(sets);
  }

  /** The same without what the last test left behind. */
  async reload(policy: NodePolicy, options?: RenderOptions): Promise<void> {
    await this.load(policy, options);
    await this.network.onNode('conntrack', '-F');
  }

  /** Every pod and the outside against each other: what happened, and what the evaluator expects. */
  async matrix(
    policy: NodePolicy,
    pods: readonly Pod[],
    transports: readonly Transport[] = ['TCP', 'UDP'],
  ): Promise<[observed: string[], expected: string[]]> {
    const parties = [...pods, outside];
    const observed: string[] = [];
    const expected: string[] = [];
    const probes: Promise<void>[] = [];
    const probe = (from: Pod | Member, to: Pod | Member, family: 0 | 1) => {
      const source = parseIp(from.addresses[family] ?? '');
      const destination = parseIp(to.addresses[family] ?? '');
      const ends = [
        { party: from, direction: 'egress' as const },
        { party: to, direction: 'ingress' as const },
      ];
      const allowed = (packet: Attempt) =>
        ends.every(({ party, direction }) => {
          if (!('namespace' in party)) return true;
          const endpoint = endpointText(party);
          return evaluate(policy, { ...packet, source, destination, direction, endpoint }).verdict === 'allow';
        });
      // A busy machine may be late once; what is closed stays so.
      const record = (what: string, packet: Attempt, attempt: () => Promise<boolean>) => {
        const line = `${from.name} → ${destination} ${what}`;
        const should = allowed(packet);
        if (should) expected.push(line);
        const reached = attempt().then((first) => first || (should && attempt()));
        probes.push(reached.then((does) => void (does && observed.push(line))));
      };
      for (const protocol of transports)
        for (const port of ports)
          record(`${protocol} ${port}`, { protocol: numbers[protocol], destinationPort: port }, () =>
            this.network.probe(from.name, { protocol, address: destination, port, timeoutMs }),
          );
      const echo =
        family === 0 ? { protocol: 1, icmp: { type: 8, code: 0 } } : { protocol: 58, icmp: { type: 128, code: 0 } };
      record('ICMP', echo, () => this.network.ping(from.name, destination, timeoutMs / 1000));
    };
    for (const from of parties)
      for (const to of parties) if (from !== to) for (const family of [0, 1] as const) probe(from, to, family);
    await Promise.all(probes);
    return [observed.sort(), expected.sort()];
  }
}

export function indexOf(events: readonly Event[]): PolicyIndex {
  const index = new PolicyIndex(node, createLog('test', 'silent'));
  for (const event of events) index.apply(event);
  return index;
}

/** Namespaces and pods. */
export function baseEvents({ namespaces, pods }: Cluster): Event[] {
  return [
    ...Object.entries(namespaces).map(([name, labels]) => namespaceEvent(name, labels)),
    ...pods.map((pod) => endpointEvent(pod)),
  ];
}
