import { afterEach, beforeEach, expect, test } from 'vitest';
import { Backoff } from '../../src/base/backoff.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { keyText, type Store, StoreUnavailableError, type Type } from '../../src/datastore/store.ts';
import { sync } from '../../src/datastore/syncer.ts';
import type { Update } from '../../src/datastore/update.ts';
import type { Assignment } from '../../src/ipam/allocator.ts';
import { ipamOf, poolValue } from '../support/ipam.ts';
import { playOutage } from '../support/ipam-outage.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { until } from '../support/wait.ts';

/* The syncer and IPAM on the Kubernetes API, while it restarts, forgets, refuses and loses answers. */

const key = (name: string) => ({ type: 'IPPool', name }) as const;
let cluster: TestCluster;
beforeEach(async () => {
  cluster = await startCluster();
});
afterEach(() => cluster.close());

function start(store: Store, types: readonly Type[]) {
  const end = new AbortController();
  const known = new Map<string, string>();
  const told: string[] = [];
  const consumer = (update: Update) => {
    if (update.op !== 'events') told.push(update.op === 'connection' ? `${update.op} ${update.up}` : update.op);
    else
      for (const event of update.events) {
        if (event.op === 'delete') known.delete(keyText(event.key));
        else known.set(keyText(event.entry.key), event.op === 'set' ? event.entry.revision : 'invalid');
      }
  };
  const backoff = new Backoff(5, 50);
  const log = createLog('test', 'silent');
  const done = sync({ store, types, consumer, log, clock: systemClock, signal: end.signal, backoff });
  return {
    known,
    told,
    stop: () => {
      end.abort();
      return done;
    },
  };
}

const soon = (what: string) => ({ within: 10_000, what });

test('a server that is down at first, restarts, forgets and refuses: nothing is missed, nothing known is dropped', async () => {
  const { api } = cluster;
  const store = cluster.open({ watchSeconds: 1 });
  const writer = cluster.open();
  await api.stop();
  const syncer = start(store, [
    'IPPool',
    'Block',
    'Profile',
    'NetworkPolicy',
    'GlobalNetworkPolicy',
    'WorkloadEndpoint',
  ]);
  await until(() => syncer.told.includes('connection false'), soon('the loss'));
  await api.start();
  await until(() => syncer.told.includes('inSync'), soon('inSync'));
  expect([...syncer.known.keys()]).toEqual(['Profile/kns.default', 'Profile/kns.kube-system']);
  for (let index = 0; index < 20; index++) {
    await until(() => writer.create(key(`p${index}`), poolValue(`p${index}`, '10.0.0.0/16')), soon('a write'));
    if (index % 7 === 3) await api.restart();
    if (index % 7 === 5) {
      api.compact();
      api.cut();
    }
  }
  await until(() => writer.delete(key('p5')), soon('a deletion'));
  await until(() => !syncer.known.has('IPPool/p5') && syncer.known.size === 21, soon('the whole picture'));
  const end = api.fault(/^GET/, { status: 403, reason: 'Forbidden' });
  api.cut();
  await until(() => syncer.told.at(-1) === 'connection false', soon('the refusal'));
  await api.create('namespaces', { metadata: { name: 'late' } });
  expect(syncer.known.size).toBe(21);
  end();
  await until(() => syncer.known.has('Profile/kns.late'), soon('what changed meanwhile'));
  const { entries } = await writer.list('IPPool');
  expect(entries).toHaveLength(19);
  for (const entry of entries) expect(syncer.known.get(keyText(entry.key))).toBe(entry.revision);
  expect(syncer.told.filter((line) => line === 'inSync')).toHaveLength(1);
  await syncer.stop();
});

test('nodes on a server that restarts and loses answers never share an address, and nothing leaks', async () => {
  const { api } = cluster;
  await playOutage(
    () => cluster.open(),
    async (during) => {
      const end = api.fault(/^(PUT|POST)/, 'lose', 3);
      await api.restart();
      await during;
      end();
      const store = cluster.open();
      await until(() => store.list('Handle'), soon('the server answers again'));
    },
  );
});

test('block, handle and pod, with the process ending before each write: the next ADD and DEL leave nothing', async () => {
  const { api } = cluster;
  const { signal } = new AbortController();
  const store = cluster.open();
  await store.create(key('p'), poolValue('p', '10.65.0.0/26', { blockSize: 29 }));
  await ipamOf(store, 'n1').ensureAffinity(4, signal);
  for (const [at, refused] of [/^POST.*ipamhandles/, /^PUT.*ipamblocks/, /^PATCH.*pods/].entries()) {
    const pod = `cart-${at}`;
    await api.create('pods', { metadata: { name: pod, namespace: 'default' }, spec: { nodeName: 'n1' } });
    const endpoint = { type: 'WorkloadEndpoint', namespace: 'default', name: `n1-k8s-cart--${at}-eth0` } as const;
    const request = {
      ...{ handle: `net.c${at}`, families: [4] as const, attributes: { pod } },
      extra: ([given]: readonly Assignment[]) => [
        {
          op: 'create' as const,
          key: endpoint,
          value: {
            ...{ kind: 'WorkloadEndpoint' as const, apiVersion: 'projectcalico.org/v3' as const },
            metadata: { name: endpoint.name, namespace: 'default' },
            spec: {
              ...{ orchestrator: 'k8s', node: 'n1', pod, endpoint: 'eth0', containerID: `c${at}`, profiles: [] },
              ...{ ipNetworks: given ? [given.cidr] : [], interfaceName: 'cali0' },
            },
          },
        },
      ],
    };
    const end = api.fault(refused, { status: 500 });
    await expect(ipamOf(store, 'n1').assign(request, signal)).rejects.toThrow(StoreUnavailableError);
    end();
    const [given] = await ipamOf(store, 'n1').assign(request, signal);
    expect((await store.get(endpoint))?.value.spec.ipNetworks).toEqual([given?.cidr]);
    const [block] = (await store.list('Block')).entries;
    expect(
      block?.value.allocations.filter((index) => index !== null),
      'one address, not two',
    ).toHaveLength(1);
    const found = await store.get(endpoint);
    await ipamOf(store, 'n1').release({ handle: `net.c${at}` }, [
      { op: 'delete', key: endpoint, revision: found?.revision ?? '' },
    ]);
    expect((await store.list('Handle')).entries).toEqual([]);
    expect(await store.get(endpoint)).toBeUndefined();
  }
});
