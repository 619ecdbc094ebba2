import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultRenderOptions } from '../../../src/policy/render.ts';
import { calicoEvent, node } from '../../support/cluster.ts';
import { calicoRows } from '../../support/conformance/calico.ts';
import { clusterRows } from '../../support/conformance/cluster.ts';
import { hostRows } from '../../support/conformance/hosts.ts';
import { kubernetesRows } from '../../support/conformance/kubernetes.ts';
import { moreAddresses, type Row } from '../../support/conformance/row.ts';
import {
  baseEvents,
  indexOf,
  outside,
  PolicyKernel,
  plain,
  plainPods,
  podMembers,
} from '../../support/policy-kernel.ts';
import { type RawPacket, RawPackets } from '../../support/raw-packets.ts';
import { told } from '../../support/told.ts';

/*
 * What the specifications say and engines get wrong, as tables of connections that are made or not: by real packets of both
 * families with both backends, and by explain.
 */

const [own4, own6] = ['192.0.2.129', 'fd00::81'];
const own = [own4, own6];
const thisNode = calicoEvent('Node', { name: node }, { bgp: { ipv4Address: `${own4}/24`, ipv6Address: `${own6}/64` } });
const members = podMembers.map((pod) =>
  pod.name === 'pod-0' ? { ...pod, addresses: [...pod.addresses, ...moreAddresses] } : pod,
);
const parties = new Map([...podMembers, outside].map(({ name, addresses }) => [name, addresses]));
const numbers: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132, GRE: 47 };
const options = { ...defaultRenderOptions, failsafeInbound: [{ protocol: 'tcp' as const, port: 85 }] };

const addressesOf = (end: string) => (end === 'host' || end === 'node' ? own : (parties.get(end) ?? [end]));

/** The packets of a row's line, one of each family that both ends have. */
function packetsOf(line: string): RawPacket[] {
  const [, from = '', to = '', protocol = '', code = 0, port] =
    /^(\S+) > (\S+) ([A-Z]+)(?:\/(\d))?(?: (\d+))?$/.exec(line) ?? expect.fail(line);
  const found = addressesOf(from).flatMap((source) =>
    addressesOf(to)
      .filter((destination) => destination.includes(':') === source.includes(':'))
      .map((destination): RawPacket => {
        const six = source.includes(':');
        const ends = { source, destination };
        if (protocol === 'ICMP')
          return { ...ends, protocol: six ? 58 : 1, icmp: { type: six ? 128 : 8, code: Number(code) } };
        const number = numbers[protocol] ?? expect.fail(line);
        if (protocol === 'GRE') return { ...ends, protocol: number };
        return { ...ends, protocol: number, sourcePort: 40_000, destinationPort: Number(port) };
      }),
  );
  expect(found, line).not.toEqual([]);
  return found;
}

/** The objects of a row with the pods that they are about. */
function eventsOf({ objects, pods = {}, namespaces = {} }: Row) {
  const those = plainPods.map((pod) => ({
    ...pod,
    ...(pod.name === 'pod-2' && { labels: { ...pod.labels, team: 'x' } }),
    ...pods[pod.name],
  }));
  const labelled = Object.entries(plain.namespaces).map(([name, labels]) => [name, { ...labels, ...namespaces[name] }]);
  return [thisNode, ...baseEvents({ ...plain, namespaces: Object.fromEntries(labelled), pods: those }), ...objects];
}

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend, [...members, outside]);
  let packets: RawPackets | undefined;

  beforeAll(async () => {
    await kernel.network.build();
    for (const address of own) await kernel.network.onNode('ip', 'address', 'add', address, 'dev', 'uplink');
    packets = new RawPackets(kernel.network, own);
    await packets.acquaint();
  });
  afterAll(async () => {
    packets?.close();
    await kernel.network.stop();
  });

  test.each([...kubernetesRows, ...clusterRows, ...calicoRows, ...hostRows])('$title', async (row) => {
    const events = eventsOf(row);
    const index = indexOf(events);
    expect(index.problems().map(({ error }) => error.message)).toEqual(row.problems ?? []);
    await kernel.reload(index.snapshot(), options);
    const asked = [row.open, row.closed].flatMap((lines, closed) =>
      lines.flatMap((line) => packetsOf(line).map((packet) => ({ line, packet, open: closed === 0 }))),
    );
    const arrived = await packets?.deliver(asked.map(({ packet }) => packet));
    const text = (line: string, { source }: RawPacket, open: boolean | undefined) => `${line} from ${source}: ${open}`;
    expect(asked.map(({ line, packet }, at) => text(line, packet, arrived?.[at]))).toEqual(
      asked.map(({ line, packet, open }) => text(line, packet, open)),
    );
    for (const { line, packet, open } of asked)
      expect(text(line, packet, told(events, packet, own) ?? open)).toBe(text(line, packet, open));
  });
});
