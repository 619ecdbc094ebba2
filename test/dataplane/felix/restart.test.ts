import { afterEach, expect, test } from 'vitest';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { FeedServer } from '../../unit/felix/support.ts';
import { type Dump, dump } from './dump.ts';
import { RealNode } from './support.ts';
import { fill, stands } from './whole.ts';

/* A felix that finds everything as it should be writes nothing: no netlink message, no line to iptables or ipset, no sysctl. */

const within = 20_000;

let n: RealNode;
let feed: FeedServer | undefined;
afterEach(async () => {
  await n.dispose();
  await feed?.close();
});

const said = (prefix: string, ...nextHops: string[]) => ({
  type: 'route' as const,
  prefix: parseCidr(prefix),
  nextHops: nextHops.map((hop) => parseIp(hop)),
  source: 'ibgp' as const,
});

/** Starts felix and tells it all that BGP has to tell. */
async function started(): Promise<void> {
  const felix = n.start();
  await until(() => feed?.connections === 1, { within, what: 'the connection of the feed' });
  feed?.say(
    { type: 'hello', version: 1 },
    said('10.80.0.0/26', '192.0.2.2', '192.0.2.3'),
    said('10.81.0.0/26', '192.0.2.2'),
    said('fd00:80::/122', '2001:db8::2'),
    { type: 'endOfSnapshot' },
  );
  await stands(n);
  const all = async () => [...(await n.routes()), ...(await n.routes('-6'))].join('\n');
  await until(async () => /10\.81\.0\.0\/26.*fd00:80::\/122/s.test(await all()), {
    within,
    what: 'routes of the feed',
  });
  await until(() => felix.status().feed.stale === 0, { within, what: 'the end of the snapshot' });
}

/** Packets of neighbour discovery are counted meanwhile, and a TUN device is up as long as a program has it. */
async function uncounted(): Promise<Dump> {
  const plain = (line: string) => line.replace(/^\[\d+:\d+\]/, '').replace(/(udp\.margay.*) state \w+/, '$1');
  return Object.fromEntries(Object.entries(await dump(n.namespace)).map(([name, lines]) => [name, lines.map(plain)]));
}

test.each(['nft', 'legacy'] as const)('a restart with nothing changed writes nothing (%s)', async (backend) => {
  const eachSecond = { routeRefreshSeconds: 1, ipsetsRefreshSeconds: 1, iptablesRefreshSeconds: 1, checkSeconds: 1 };
  n = await RealNode.make(backend, { ...eachSecond, sourceSpoofing: true });
  feed = await FeedServer.listen(n.runDir);
  await fill(n);
  await started();
  expect(n.writes.length).toBeGreaterThan(20);
  expect(n.restored).toMatchObject({ restores: expect.toSatisfy((count: number) => count > 0) });
  const tentative = () => n.namespace.exec('ip', '-6', 'address', 'show', 'tentative');
  await until(async () => (await tentative()) === '', { within, what: 'the end of duplicate address detection' });
  const before = await uncounted();
  await n.stop();
  await until(() => feed?.connections === 0, { within, what: 'the end of the connection' });
  await started();
  // Two looks at everything of each kind, as from time to time.
  let passes = 0;
  n.felix?.onPass(() => passes++);
  await until(() => passes > 4, { within, what: 'the next passes' });
  expect(n.writes).toEqual([]);
  expect(n.restored).toEqual({ restores: 0, iptablesLines: 0, ipsetLines: 0 });
  expect(await uncounted()).toEqual(before);
});
