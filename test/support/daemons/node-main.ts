import { readFileSync } from 'node:fs';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { runBgp } from '../../../src/bgp/main.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';

/** `margay bgp` of one node, with the datastore's keys and texts out of a JSON file. */
const [, , file = '', nodename = '', runDir = ''] = process.argv;
const store = createMemoryStore();
for (const [key, text] of Object.entries(JSON.parse(readFileSync(file, 'utf8')))) store.plant(key, String(text));
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
const log = createLog(nodename, 'debug');
await runBgp({ store, nodename, runDir, env: {}, log, clock: systemClock, signal: stop.signal });
