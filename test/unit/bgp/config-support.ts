import { expect } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { compile } from '../../../src/bgp/config.ts';
import { ObjectStore } from '../../../src/bgp/objects.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseCidr } from '../../../src/model/address.ts';
import type { Block } from '../../../src/model/ipam.ts';
import { type Kind, parseResource } from '../../../src/model/kinds.ts';

/* Objects of a cluster of three nodes, seen from node a, and what the speaker makes of them. */

const log = createLog('test', 'silent');

export function set(kind: Kind, name: string, spec: object, metadata: object = {}): Event {
  const value = parseResource(kind, {
    kind,
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, ...metadata },
    spec,
  });
  return { op: 'set', entry: { key: { type: kind, name }, value, revision: '1' } } as Event;
}

export function node(
  name: string,
  four: string,
  six?: string,
  extra: object = {},
  labels: Record<string, string> = {},
): Event {
  return set('Node', name, { bgp: { ipv4Address: four, ...(six ? { ipv6Address: six } : {}), ...extra } }, { labels });
}

export function block(
  cidr: string,
  affinity: string | null,
  used: readonly (string | undefined)[] = [],
  released = false,
): Event {
  const value: Block = {
    cidr: parseCidr(cidr),
    affinity,
    allocations: used.map((owner, i) => (owner === undefined ? null : i)),
    unallocated: [],
    attributes: used.map((owner) => ({
      handle_id: 'h',
      secondary: owner === undefined ? null : { node: owner },
      ...(released ? { releasedAt: '2026-01-01T00:00:00Z' } : {}),
    })),
    sequenceNumber: 1n,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
  return { op: 'set', entry: { key: { type: 'Block', cidr: value.cidr }, value, revision: '1' } };
}

export function storeOf(...events: readonly Event[]): ObjectStore {
  const objects = new ObjectStore('a', log);
  for (const event of events) objects.apply(event);
  return objects;
}

export function compiled(objects: ObjectStore, nodename = 'a') {
  return compile(objects, nodename, undefined) ?? expect.fail('no configuration');
}

export const a = node('a', '10.0.0.9/24', 'fd99::9/64');
export const b = node('b', '10.0.0.10/24', 'fd99::10/64');
export const c = node('c', '10.0.0.2/24');
