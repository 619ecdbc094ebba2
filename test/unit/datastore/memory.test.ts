import { expect, test } from 'vitest';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import type { Value } from '../../../src/datastore/store.ts';

const pool = (cidr: string): Value<'IPPool'> =>
  ({ kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata: { name: 'a' }, spec: { cidr } }) as Value<'IPPool'>;

test('a list as of an earlier revision shows that moment', async () => {
  const store = createMemoryStore();
  const key = { type: 'IPPool', name: 'a' } as const;
  const made = await store.create(key, pool('10.0.0.0/16'));
  if (made.outcome !== 'written') return expect.fail(made.outcome);
  await store.update(key, pool('10.1.0.0/16'), made.entry.revision);
  const before = await store.list('IPPool', { revision: made.entry.revision });
  expect(before.entries.map(({ value }) => value.spec.cidr)).toEqual(['10.0.0.0/16']);
  store.compact();
  await expect(store.list('IPPool', { revision: made.entry.revision })).rejects.toThrow('compacted');
});
