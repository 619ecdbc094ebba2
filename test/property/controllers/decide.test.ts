import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import type { Action } from '../../../src/controllers/action.ts';
import { actionsFor, type World } from '../../../src/controllers/decide.ts';
import { Performer } from '../../../src/controllers/perform.ts';
import { readSettings } from '../../../src/controllers/settings.ts';
import { SyncedView } from '../../../src/controllers/view.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { type Key, type KeyOf, keyText, type Store, type Type, type Value } from '../../../src/datastore/store.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import type { Resource } from '../../../src/model/resource.ts';
import { nodeValue } from '../../support/ipam.ts';

/* Any state of Kubernetes and of the datastore: what is decided makes one as the other is, and touches nothing else. */

const log = createLog('test', 'silent');
const { settings } = readSettings({ AUTO_HOST_ENDPOINTS: 'enabled' });
const types = [
  ...['Profile', 'NetworkPolicy', 'WorkloadEndpoint', 'Node', 'HostEndpoint'],
  ...['BGPPeer', 'FelixConfiguration', 'BGPConfiguration', 'Service'],
] as Type[];

type Object = Value<Type> & Resource;

const labels = fc.dictionary(fc.constantFrom('app', 'zone'), fc.constantFrom('x', 'y'), { maxKeys: 2 });
const name = fc.constantFrom('a', 'b', 'c');

const kubernetes = fc.oneof(
  fc.record({ name, labels }).map((metadata) => ({ apiVersion: 'v1', kind: 'Namespace', metadata })),
  fc
    .record({ name, labels, namespace: name })
    .map((metadata) => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata })),
  fc.record({ name, namespace: name, matchLabels: labels }).map(({ matchLabels, ...metadata }) => ({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata },
    spec: { podSelector: { matchLabels }, policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 80 }] }] },
  })),
);
const native = kubernetes.map((object) => parseKubernetes(object) as unknown as Object);

const pod = fc.record({ name, node: name, labels }).map(
  ({ name: own, node, labels: given }): Object =>
    ({
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: `${node}-k8s-${own}-eth0`, namespace: 'shop', labels: given },
      spec: {
        orchestrator: 'k8s',
        node,
        pod: own,
        endpoint: 'eth0',
        interfaceName: `cali${own}`,
        profiles: ['kns.shop'],
      },
    }) as unknown as Object,
);

const node = fc.record({ name, labels, address: fc.boolean() }).map(
  ({ name: own, labels: given, address }): Object =>
    ({
      ...nodeValue(own, {
        orchRefs: [{ nodeName: own, orchestrator: 'k8s' }],
        ...(address && { bgp: { ipv4Address: '192.0.2.7/24' } }),
      }),
      metadata: { name: own, labels: given },
    }) as unknown as Object,
);

/** What is nobody's copy. */
const foreign: Object[] = (
  [
    { kind: 'Profile', metadata: { name: 'own' }, spec: {} },
    { kind: 'NetworkPolicy', metadata: { name: 'own', namespace: 'a' }, spec: { selector: 'all()' } },
    { kind: 'Node', metadata: { name: 'outside' }, spec: {} },
    {
      kind: 'HostEndpoint',
      metadata: { name: 'b-auto-hep' },
      spec: { node: 'b', interfaceName: 'eth1', expectedIPs: [], profiles: [], ports: [] },
    },
    { kind: 'BGPPeer', metadata: { name: 'tor' }, spec: { peerIP: '192.0.2.1', asNumber: 64512 } },
  ] as const
).map((each) => ({ ...each, apiVersion: 'projectcalico.org/v3' }) as unknown as Object);

const peers: Object[] = ['a', 'b'].map(
  (each) =>
    ({
      ...{ kind: 'BGPPeer', apiVersion: 'projectcalico.org/v3', metadata: { name: `of-${each}` } },
      spec: { node: each, peerIP: '192.0.2.2', asNumber: 64512 },
    }) as unknown as Object,
);

function keyOf({ kind, metadata }: Object): Key {
  return { type: kind, name: metadata.name, ...(metadata.namespace && { namespace: metadata.namespace }) } as Key;
}

async function filled(objects: readonly Object[]): Promise<Store> {
  const store = createMemoryStore();
  for (const each of objects) await store.create(keyOf(each) as KeyOf<Type>, each);
  return store;
}

async function viewOf(store: Store): Promise<SyncedView> {
  const view = new SyncedView(() => undefined);
  for (const type of types) {
    const { entries } = await store.list(type);
    view.consume({ op: 'events', events: entries.map((entry) => ({ op: 'set', entry })) });
  }
  view.consume({ op: 'inSync' });
  return view;
}

async function worldOf(store: Store, cluster: Store): Promise<World & { readonly keys: Key[] }> {
  const [inStore, inCluster] = [await viewOf(store), await viewOf(cluster)];
  const keys = new Map([...inStore.keys(), ...inCluster.keys()].map((key) => [keyText(key), key]));
  return { settings, store: inStore, cluster: inCluster, keys: [...keys.values()] };
}

/** Works off all keys until there is nothing to do. */
async function settle(store: Store, cluster: Store): Promise<number> {
  const performer = new Performer({ store, cluster, clock: systemClock, log });
  for (let pass = 0; ; pass++) {
    const world = await worldOf(store, cluster);
    const decided = world.keys.map((key) => actionsFor(key, world)).filter((actions) => actions.length > 0);
    if (decided.length === 0) return pass;
    if (pass === 5) expect.fail(JSON.stringify(decided));
    for (const actions of decided) await inTurn(actions, performer);
  }
}

/** As the loop does: what follows waits for what did not come about. */
async function inTurn(actions: readonly Action[], performer: Performer): Promise<void> {
  for (const action of actions) if ((await performer.perform(action)) !== 'done') return;
}

async function dump(store: Store): Promise<Map<string, Object>> {
  const lists = await Promise.all(types.map((type) => store.list(type)));
  return new Map(
    lists.flatMap(({ entries }) => entries.map(({ key, value }) => [keyText(key), value as Object] as const)),
  );
}

const objects = fc.array(fc.oneof(native, pod, node), { maxLength: 12 });

test('the datastore becomes as Kubernetes is, in the end nothing is left to do, and what is nobody’s copy stays', async () => {
  await fc.assert(
    fc.asyncProperty(objects, objects, async (wanted, found) => {
      const cluster = await filled(wanted);
      const store = await filled([...found, ...foreign, ...peers]);
      await settle(store, cluster);
      const [there, here] = [await dump(cluster), await dump(store)];
      for (const [text, { kind, spec, metadata }] of there) {
        const copy = here.get(text);
        if (kind === 'Profile' || kind === 'NetworkPolicy') expect(copy?.spec, text).toEqual(spec);
        if (kind === 'WorkloadEndpoint' && copy) expect(copy.metadata.labels ?? {}).toEqual(metadata.labels ?? {});
        if (kind === 'Node' && copy) expect(copy.metadata.labels ?? {}).toMatchObject(metadata.labels ?? {});
      }
      for (const [text, { kind, metadata, spec }] of here) {
        if (foreign.some((each) => keyText(keyOf(each)) === text)) continue;
        if (kind === 'Profile' || kind === 'NetworkPolicy' || kind === 'Node') expect(there.has(text), text).toBe(true);
        if (kind === 'WorkloadEndpoint') expect(hadNode(found, spec) && !there.has(nodeOf(spec))).toBe(false);
        if (kind === 'HostEndpoint') expect(here.has(nodeOf(spec)), metadata.name).toBe(true);
      }
      for (const each of foreign) expect(here.get(keyText(keyOf(each)))?.spec).toMatchObject(each.spec as object);
      for (const each of ['a', 'b']) {
        const gone = found.some((one) => keyText(keyOf(one)) === `Node/${each}`) && !there.has(`Node/${each}`);
        expect(here.has(`BGPPeer/of-${each}`)).toBe(!gone);
      }
    }),
    { numRuns: 40 },
  );
});

function nodeOf(spec: unknown): string {
  return `Node/${(spec as { node: string }).node}`;
}

function hadNode(found: readonly Object[], spec: unknown): boolean {
  return found.some((each) => keyText(keyOf(each)) === nodeOf(spec));
}

test('a node with an address has one automatic host endpoint, unless somebody made one under its name', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(node, { maxLength: 4 }), async (nodes) => {
      const cluster = await filled(nodes);
      const store = await filled([...nodes, ...foreign]);
      await settle(store, cluster);
      const here = await dump(store);
      const made = new Map(nodes.toReversed().map((each) => [each.metadata.name, each]));
      for (const [own, { spec }] of made) {
        const addressed = (spec as { bgp?: unknown }).bgp !== undefined;
        const endpoint = here.get(`HostEndpoint/${own}-auto-hep`);
        if (own === 'b') expect(endpoint?.spec).toMatchObject({ interfaceName: 'eth1' });
        else expect(endpoint !== undefined, own).toBe(addressed);
        if (own !== 'b' && endpoint)
          expect(endpoint).toMatchObject({
            metadata: { labels: { 'projectcalico.org/created-by': 'calico-kube-controllers' } },
            spec: { interfaceName: '*', expectedIPs: ['192.0.2.7'], profiles: ['projectcalico-default-allow'] },
          });
      }
    }),
    { numRuns: 40 },
  );
});
