import type { DeleteOutcome, Store, TransactionOutcome, Type, Write, WriteOutcome } from './store.ts';

/**
 * A transaction for stores that have none: the writes one after the other, each by compare-and-swap. It stops at the
 * first that conflicts; those before it stand, and the caller takes them back (docs/decisions/0017).
 * @throws what a write throws; the writes before it stand then too, and whether that one went through is unknown
 */
export async function writeInOrder(
  store: Pick<Store, 'create' | 'update' | 'delete'>,
  writes: readonly Write[],
): Promise<TransactionOutcome> {
  const revisions: (string | undefined)[] = [];
  for (const write of writes) {
    const done = await apply(store, write);
    if (done.outcome !== 'written') return { outcome: 'conflict', failed: revisions.length, standing: revisions };
    revisions.push('entry' in done ? done.entry.revision : undefined);
  }
  return { outcome: 'written', revisions };
}

function apply(
  store: Pick<Store, 'create' | 'update' | 'delete'>,
  write: Write,
): Promise<WriteOutcome<Type> | DeleteOutcome> {
  switch (write.op) {
    case 'create':
      return store.create<Type>(write.key, write.value);
    case 'update':
      return store.update<Type>(write.key, write.value, write.revision);
    case 'delete':
      return store.delete<Type>(write.key, write.revision);
  }
}
