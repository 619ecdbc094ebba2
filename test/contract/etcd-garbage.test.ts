import { Etcd3 } from 'etcd3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import { type Key, keyText, type Type } from '../../src/datastore/store.ts';
import { sync } from '../../src/datastore/syncer.ts';
import type { Update } from '../../src/datastore/update.ts';
import { isKind, type Kind, kinds } from '../../src/model/kinds.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { until } from '../support/wait.ts';

/* What anybody may write into an etcd that others share: under the keys of every kind, and beside them. */

const values: readonly string[] = [
  ...['', 'null', '[]', '"x"', '7', '{', '\u0000', '{"kind":"Foo"}', '{"metadata":{"name":"../../x"}}'],
  ...['['.repeat(20_000), '{"spec":null}', '{"__proto__":{"kind":"Node"}}', `{"spec":{"order":${'9'.repeat(400)}}}`],
];
const strangers = [
  '/calico/',
  '/calico/x',
  '/calico/resources/v3/projectcalico.org/nodes/a/b/c',
  '/calico/ipam/v2/host/',
];
const log = createLog('test', 'silent');
const types = [...(Object.keys(kinds) as Kind[]), 'Block', 'BlockAffinity', 'Handle', 'IpamConfig'] as const;
let etcd: TestEtcd;
let raw: Etcd3;
beforeAll(async () => {
  etcd = await startEtcd();
  raw = new Etcd3({ hosts: etcd.endpoint });
});
afterAll(async () => {
  raw?.close();
  await etcd?.stop();
});

/** Where garbage of a type lies: its place, and what its key is called. */
function places(type: Type): readonly (readonly [string, string])[] {
  const ipam = '/calico/ipam/v2';
  if (type === 'Block') return [[`${ipam}/assignment/ipv4/block/10.65.0.0-26`, 'Block/10.65.0.0/26']];
  if (type === 'BlockAffinity') return [[`${ipam}/host/n1/ipv4/block/10.65.0.0-26`, 'BlockAffinity/']];
  if (type === 'Handle') return [[`${ipam}/handle/h`, 'Handle/h']];
  if (!isKind(type)) return [[`${ipam}/config`, 'IpamConfig']];
  const { plural, namespaced } = kinds[type];
  return values.map((_, at) => {
    const name = namespaced ? `shop/bad-${at}` : `bad-${at}`;
    return [`/calico/resources/v3/projectcalico.org/${plural}/${name}`, `${type}/${name}`] as const;
  });
}

test('garbage under every key is told by its key, and hides nothing beside it; a syncer stays in sync', async () => {
  const store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint] }, log);
  const good = { type: 'IPPool', name: 'good' } as const;
  const metadata = { name: 'good' };
  await store.create(good, {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata,
    spec: { cidr: '10.65.0.0/16' },
  } as never);
  for (const [at, stranger] of strangers.entries()) await raw.put(stranger).value(values[at] ?? '');
  const told = new Map<string, string>();
  let inSync = 0;
  const consumer = (update: Update) => {
    if (update.op === 'inSync') inSync++;
    if (update.op !== 'events') return;
    for (const event of update.events)
      if (event.op === 'invalid') told.set(keyText(event.entry.key), event.entry.error.message);
      else if (event.op === 'set') told.set(keyText(event.entry.key), 'good');
  };
  const end = new AbortController();
  const done = sync({ store, types, consumer, log, clock: systemClock, signal: end.signal });
  try {
    await until(() => inSync === 1, { within: 10_000, what: 'inSync' });
    const all = types.flatMap((type) =>
      places(type).map(([place, name], at) => ({ place, name, text: values[at] ?? '' })),
    );
    // An affinity may be empty; all others are told.
    for (const { place, text } of all) await raw.put(place).value(place.includes('/host/') ? 'null' : text);
    const isTold = (name: string) => [...told.keys()].some((key) => key.startsWith(name));
    await until(() => all.every(({ name }) => isTold(name)), { within: 20_000, what: 'all of it at the syncer' });
    expect([...told].filter(([, message]) => message === 'good').map(([key]) => key)).toEqual(['IPPool/good']);
    for (const type of types) {
      const { entries, invalid } = await store.list(type);
      expect(entries.map(({ key }: { key: Key }) => keyText(key))).toEqual(type === 'IPPool' ? ['IPPool/good'] : []);
      expect(invalid).toHaveLength(places(type).length);
      for (const { key, error } of invalid) expect(error.message).toContain('name' in key ? key.name : type);
    }
    expect(inSync).toBe(1);
  } finally {
    end.abort();
    await done;
    store.close();
  }
});
