import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { assembleFelix } from '../../../src/felix/run.ts';
import {
  calicoEvent,
  calicoPolicyEvent,
  endpointEvent,
  node,
  serviceEvent,
  sliceEvent,
} from '../../support/cluster.ts';
import { baseEvents, plain } from '../../support/policy-kernel.ts';

/*
 * A program: felix as it is assembled for a node, for the namespace that it is started in, with three pods of which one is
 * closed but for a port, a service in front of that one, and a host endpoint. It says `ready` when the kernel is as wanted, and ends with its input.
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
const service = [
  serviceEvent('one', 'web', {
    clusterIP: '10.96.0.10',
    ports: [
      { name: 'open', port: 5080 },
      { name: 'closed', port: 5085 },
    ],
  }),
  sliceEvent(
    'one',
    'web',
    ['10.65.0.2'],
    [
      { name: 'open', port: 80 },
      { name: 'closed', port: 85 },
    ],
  ),
];
const edge = [
  calicoEvent('Node', { name: node }, { bgp: { ipv4Address: '192.0.2.1/24' } }),
  calicoEvent('HostEndpoint', { name: 'edge', labels: { role: 'edge' } }, { node, interfaceName: 'uplink' }),
  calicoEvent(
    'GlobalNetworkPolicy',
    { name: 'edge' },
    {
      selector: "role == 'edge'",
      egress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [85] } }, { action: 'Allow' }],
      types: ['Egress'],
    },
  ),
  calicoEvent(
    'GlobalNetworkPolicy',
    { name: 'early' },
    {
      ...{ selector: "role == 'edge'", doNotTrack: true, applyOnForward: true },
      egress: [{ action: 'Deny', protocol: 'UDP', destination: { ports: [85] } }],
      types: ['Egress'],
    },
  ),
];
const far = endpointEvent({ name: 'far', namespace: 'two', labels: {}, addresses: ['10.65.0.9'], ports: [] }, 'node-2');
for (const event of [...baseEvents(plain), far, closed, ...service, ...edge])
  if (event.op === 'set') await store.create(event.entry.key, event.entry.value);
const env = { FELIX_IPTABLESBACKEND: 'nft', FELIX_LOGSEVERITYSCREEN: 'warning' };
const log = createLog('felix', 'warn');
const stop = new AbortController();
const { felix, run } = await assembleFelix({ store, nodename: node, runDir, env, log, clock: systemClock, bgp: false });
felix.onPass(({ failures }) => failures === 0 && process.stdout.write('ready\n'));
const running = run(stop.signal);
process.stdin.once('end', () => stop.abort()).resume();
await running;
