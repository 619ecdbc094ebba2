import { createLog } from '../base/log.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import type { Event, Type } from '../datastore/store.ts';
import { verdictTypes } from '../felix/explain/mirror.ts';
import { readInput } from './apply.ts';
import { type Manifest, readManifests } from './documents.ts';

/** What verdicts on packets depend on, and more. */
const types = [
  ...verdictTypes,
  // Without a part in verdicts, but in previews.
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'StagedKubernetesNetworkPolicy',
] as const satisfies readonly Type[];

/** A manifest as what a datastore that holds it would tell. */
export function eventOf({ key, value }: Manifest): Event {
  return { op: 'set', entry: { key, value, revision: '0' } };
}

/** All objects of files. @throws InputError with file, line and field of the first problem */
export async function clusterOfFiles(files: readonly string[], namespace: string): Promise<Event[]> {
  const texts = await Promise.all(files.map(async (file) => ({ file, text: await readInput(file) })));
  return texts.flatMap(({ file, text }) => readManifests(text, file === '-' ? 'stdin' : file, namespace).map(eventOf));
}

/** The objects of the datastore as of one moment. @throws StoreUnavailableError */
export async function clusterOfStore(): Promise<Event[]> {
  const log = createLog('margayctl', process.env['MARGAY_LOG_LEVEL'] || 'error');
  const store = openStore(readStoreConfig(process.env), log);
  try {
    const first = await store.list<Type>(types[0]);
    const { revision } = first;
    const others = await Promise.all(types.slice(1).map((type) => store.list<Type>(type, { revision })));
    return [first, ...others].flatMap(({ entries, invalid }) => [
      ...entries.map((entry): Event => ({ op: 'set', entry })),
      ...invalid.map((entry): Event => ({ op: 'invalid', entry })),
    ]);
  } finally {
    store.close();
  }
}
