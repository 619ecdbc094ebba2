import { createInterface } from 'node:readline';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { type Event, keyText } from '../../../src/datastore/store.ts';
import { assembleFelix } from '../../../src/felix/run.ts';
import { node } from '../../support/cluster.ts';

/*
 * A program: felix as it is assembled for a node, for the namespace that it is started in, on a store that takes the
 * events of its standard input, one JSON object a line. It says `ready` when the kernel is as wanted. Ends with its input.
 */

const [runDir = '', backend = 'nft'] = process.argv.slice(2);
const store = createMemoryStore();
const env = { FELIX_IPTABLESBACKEND: backend, FELIX_LOGSEVERITYSCREEN: 'warning', FELIX_VERDICTLOGS: 'none' };
const log = createLog('felix', 'warn');
const stop = new AbortController();
const { felix, run } = await assembleFelix({ store, nodename: node, runDir, env, log, clock: systemClock, bgp: false });
felix.onPass(({ failures }) => failures === 0 && process.stdout.write('ready\n'));
const running = run(stop.signal);
for await (const line of createInterface({ input: process.stdin })) await apply(JSON.parse(line) as Event);
stop.abort();
await running;

async function apply(event: Event): Promise<void> {
  const key = event.op === 'delete' ? event.key : event.entry.key;
  const before = await store.get(key);
  const outcome =
    event.op !== 'set'
      ? await store.delete(key)
      : before
        ? await store.update(key, event.entry.value, before.revision)
        : await store.create(key, event.entry.value);
  if (outcome.outcome !== 'written') throw new Error(`${keyText(key)}: ${outcome.outcome}`);
}
