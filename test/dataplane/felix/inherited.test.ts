import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, FeedServer, node, nodeResource, pool } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* A node that Calico served until now: its BIRD is gone, and the routes that it had written are still there. */

const within = 20_000;
const left = [
  '10.65.1.0/26 via 192.0.2.2',
  '10.65.2.0/26 via 192.0.2.3',
  '10.65.3.0/26 nexthop via 192.0.2.2 nexthop via 192.0.2.3',
  'blackhole 10.65.0.0/26',
  'blackhole 10.65.9.0/26',
];
const others = ['172.16.0.0/16 via 192.0.2.2', 'blackhole 172.17.0.0/16'];

let n: RealNode;
let feed: FeedServer | undefined;
let monitor: ChildProcess | undefined;
afterEach(async () => {
  monitor?.kill();
  await n.dispose();
  await feed?.close();
});

const said = (prefix: string, ...hops: string[]) => ({
  type: 'route' as const,
  prefix: parseCidr(prefix),
  nextHops: hops.map((hop) => parseIp(hop)),
  source: 'ibgp' as const,
});

test('they are taken over without a gap, go when BGP does not tell them again, and those outside the pools stay', async () => {
  n = await RealNode.make('nft');
  for (const route of [...left, ...others])
    await n.namespace.exec('sh', '-c', `ip route add ${route.replace(/^(blackhole )?(\S+)/, '$1$2 proto bird')}`);
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false));
  await n.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24'));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  const gone: string[] = [];
  const child = spawn('nsenter', [`--net=${n.namespace.path}`, 'ip', 'monitor', 'route']);
  monitor = child;
  let seen = 0;
  createInterface({ input: child.stdout }).on('line', (line) => {
    seen++;
    if (line.startsWith('Deleted')) gone.push(line.trim());
  });
  const noticed = async () => {
    await n.namespace.exec('ip', 'route', 'replace', '198.18.0.0/24', 'via', '192.0.2.3', 'metric', String(seen + 1));
    return seen > 0;
  };
  await until(noticed, { within, what: 'the monitor' });

  feed = await FeedServer.listen(n.runDir);
  const felix = n.start();
  const bird = async () => (await n.namespace.exec('ip', 'route', 'show', 'proto', 'bird')).match(/\d\S+\/\d+/g);
  await until(async () => !(await bird())?.some((prefix) => prefix.startsWith('10.')), {
    within,
    what: 'the takeover',
  });
  const ours = (await n.routes()).join('\n');
  for (const line of [
    '10.65.1.0/26 via 192.0.2.2 dev up0',
    '10.65.2.0/26 via 192.0.2.3 dev up0',
    'blackhole 10.65.0.0/26',
  ])
    expect(ours).toContain(line);
  expect(ours).toMatch(/10\.65\.3\.0\/26 *\nnexthop via 192\.0\.2\.2 dev up0 weight 1 *\nnexthop via 192\.0\.2\.3/);
  // Of a block that this node no longer has.
  expect(gone).toEqual([expect.stringContaining('10.65.9.0/26')]);
  expect(felix.status().failures).toEqual([]);

  await until(() => feed?.connections === 1, { within, what: 'the connection of the feed' });
  feed.say(
    { type: 'hello', version: 1 },
    said('10.65.1.0/26', '192.0.2.2'),
    said('10.65.3.0/26', '192.0.2.2', '192.0.2.3'),
  );
  feed.say({ type: 'endOfSnapshot' });
  await until(async () => !(await n.routes()).join().includes('10.65.2.0/26'), {
    within,
    what: 'the end of the stale one',
  });
  await until(() => gone.length === 2, { within, what: 'the last event' });
  expect(gone[1]).toContain('10.65.2.0/26');
  expect(await bird()).toEqual(['172.16.0.0/16', '172.17.0.0/16']);
});
