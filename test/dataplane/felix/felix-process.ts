import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { type Key, keyText, type Value } from '../../../src/datastore/store.ts';
import { assembleFelix } from '../../../src/felix/run.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { block, node, pod, podKey, pool, profile } from '../../unit/felix/support.ts';

/*
 * A program: felix as it is assembled for a node, for the namespace that it is started in, with a store that holds the
 * pods of its arguments (`name=address`), each with the device cali<name>. It says `programmed` when they all stand.
 */

const [runDir = '', backend = 'nft', ...pods] = process.argv.slice(2);
const store = createMemoryStore();
const put = (key: Key, value: Value<Key['type']>) => store.create(key, value);
await put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
await put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
await put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
for (const text of pods) {
  const [name = '', address = ''] = text.split('=');
  await put(podKey(name), pod(name, { addresses: [address] }));
}
const settings = Object.entries(process.env).filter(([name]) => name.startsWith('FELIX_'));
const env = { FELIX_IPTABLESBACKEND: backend, FELIX_LOGSEVERITYSCREEN: 'warning', ...Object.fromEntries(settings) };
const log = createLog('felix', 'warn');
const { felix, run } = await assembleFelix({ store, nodename: node, runDir, env, log, clock: systemClock, bgp: false });
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const running = run(stop.signal);
for (const text of pods)
  await felix.whenProgrammed(keyText(podKey(text.split('=')[0] ?? '')), undefined, 60_000, stop.signal);
process.stdout.write('programmed\n');
await running;
