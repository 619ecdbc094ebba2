import { afterEach, expect, test } from 'vitest';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, FeedServer, gated, node } from '../../unit/felix/support.ts';
import { beyond, dump } from './dump.ts';
import { RealNode } from './support.ts';

/* A node that starts while its datastore is away: whatever it hears and finds, the kernel stays as it was. */

const within = 20_000;

let n: RealNode;
let feed: FeedServer | undefined;
afterEach(async () => {
  await n.dispose();
  await feed?.close();
});

/** What an earlier felix left, and what others have. */
const before = [
  'ip route add 10.80.0.0/26 via 192.0.2.2 proto 80',
  'ip route add 10.80.1.0/26 via 192.0.2.3 proto 80',
  'ip route add 10.9.0.0/16 via 192.0.2.2 proto bird',
  'ipset create cali40s:left hash:net',
  'ipset add cali40s:left 10.9.0.0/16',
  'ipset create theirs hash:net',
  'iptables-nft -N cali-left',
  'iptables-nft -A cali-left -m set --match-set cali40s:left src -j DROP',
  'iptables-nft -I FORWARD -j cali-left',
  'iptables-nft -N THEIRS',
  'iptables-nft -A FORWARD -s 10.9.0.0/16 -j THEIRS',
];

const route = (prefix: string, nextHop: string) => ({
  type: 'route' as const,
  prefix: parseCidr(prefix),
  nextHops: [parseIp(nextHop)],
  source: 'ibgp' as const,
});

/** Duplicate address detection is over: the kernel has made the routes of its own that come with its end. */
const settled = async () => (await n.namespace.exec('ip', '-6', 'address', 'show', 'tentative')).trim() === '';

test('nothing is written before the datastore is in sync, and then only what differs', async () => {
  n = await RealNode.make('nft', { routeRefreshSeconds: 0.1, iptablesRefreshSeconds: 0.1, ipsetsRefreshSeconds: 0.1 });
  feed = await FeedServer.listen(n.runDir);
  await n.namespace.exec('sh', '-ec', before.join('\n'));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  const late = gated(n.store);
  await until(settled, { within, what: 'the addresses to be usable' });
  const found = await dump(n.namespace);
  const felix = n.start(late.store);
  await until(() => feed?.connections === 1 && late.asked(), { within, what: 'felix to ask' });
  feed.say({ type: 'hello', version: 1 }, route('10.80.0.0/26', '192.0.2.2'), route('10.81.0.0/26', '192.0.2.2'), {
    type: 'endOfSnapshot',
  });
  await until(() => felix.status().feed.complete, { within, what: 'the feed to be taken' });
  // Somebody else takes a route of ours away, and felix hears it.
  await n.namespace.exec('ip', 'route', 'delete', '10.80.0.0/26');
  await n.namespace.exec('ip', 'route', 'add', '10.80.0.0/26', 'via', '192.0.2.2', 'proto', '80');
  expect(await dump(n.namespace)).toEqual(found);
  expect(n.writes).toEqual([]);
  expect(n.restored).toEqual({ restores: 0, iptablesLines: 0, ipsetLines: 0 });

  late.open();
  const routes = async () => (await n.routes()).join('\n');
  await until(async () => /10\.81\.0\.0\/26 via 192\.0\.2\.2/.test(await routes()), { within, what: 'the new route' });
  await until(async () => !/10\.80\.1\.0/.test(await routes()), {
    within,
    what: 'the end of the route that nobody wants',
  });
  await until(async () => !(await n.saved('iptables')).includes('cali-left'), {
    within,
    what: 'the end of the old chain',
  });
  await until(async () => !(await n.namespace.exec('ipset', 'list', '-n')).includes('left'), {
    within,
    what: 'of the set',
  });
  const after = await dump(n.namespace);
  expect(after['routes']).toContain('blackhole 10.65.0.0/26 proto 80');
  // What is gone was ours.
  expect(beyond(found, after).filter((line) => !/cali-left|cali40s:left|10\.80\.1\.0|sysctls:/.test(line))).toEqual([]);
});
