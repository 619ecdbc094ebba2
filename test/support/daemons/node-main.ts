import { readFileSync } from 'node:fs';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { runBgp } from '../../../src/bgp/main.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';

/** `margay bgp` of one node, with the datastore's keys and texts out of a JSON file. */
const [, , file = '', nodename = '', runDir = ''] = process.argv;
const store = createMemoryStore();
/** What the file says now; SIGHUP reads it again. */
const follow = () => {
  const texts = new Map(Object.entries<string>(JSON.parse(readFileSync(file, 'utf8'))));
  const before = store.dump();
  for (const key of before.keys()) if (!texts.has(key)) store.plant(key, undefined);
  for (const [key, text] of texts) if (before.get(key) !== text) store.plant(key, text);
};
follow();
process.on('SIGHUP', follow);
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
const log = createLog(nodename, 'debug');
await runBgp({ store, nodename, runDir, env: {}, log, clock: systemClock, signal: stop.signal });
