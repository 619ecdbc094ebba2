import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { assembleFelix } from '../../../src/felix/run.ts';
import { calicoPolicyEvent, node } from '../../support/cluster.ts';
import { baseEvents, plain } from '../../support/policy-kernel.ts';

/*
 * A program: felix as it is assembled for a node, for the namespace that it is started in, with three pods of which one is
 * closed but for a port. It says `ready` when the kernel is as wanted, and ends with its input.
 */

const [runDir = ''] = process.argv.slice(2);
const store = createMemoryStore();
const closed = calicoPolicyEvent('closed', 'one', {
  selector: "app == 'b'",
  types: ['Ingress'],
  ingress: [
    { action: 'Deny', protocol: 'TCP', destination: { ports: [53, 85] } },
    { action: 'Allow', destination: { selector: "app == 'b'" } },
  ],
});
for (const event of [...baseEvents(plain), closed])
  if (event.op === 'set') await store.create(event.entry.key, event.entry.value);
const env = { FELIX_IPTABLESBACKEND: 'nft', FELIX_LOGSEVERITYSCREEN: 'warning' };
const log = createLog('felix', 'warn');
const stop = new AbortController();
const { felix, run } = await assembleFelix({ store, nodename: node, runDir, env, log, clock: systemClock, bgp: false });
felix.onPass(({ failures }) => failures === 0 && process.stdout.write('ready\n'));
const running = run(stop.signal);
process.stdin.once('end', () => stop.abort()).resume();
await running;
