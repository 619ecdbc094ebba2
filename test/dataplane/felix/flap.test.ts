import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, FeedServer, node, pod, podKey, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* A route that flaps in BGP does not flap in the kernel while what it comes to is equal; `ip monitor` is the judge. */

const within = 20_000;
const address = '10.65.0.2';
const many = '10.67.0.0/26';
const many6 = 'fd00:67::/122';
const [two, three, two6, three6] = ['192.0.2.2', '192.0.2.3', '2001:db8::2', '2001:db8::3'];

let n: RealNode;
let feed: FeedServer | undefined;
let monitor: ChildProcess | undefined;
afterEach(async () => {
  monitor?.kill();
  await n.dispose();
  await feed?.close();
});

const hello = { type: 'hello', version: 1 } as const;
const endOfSnapshot = { type: 'endOfSnapshot' } as const;
const withdraw = (prefix: string) => ({ type: 'withdraw' as const, prefix: parseCidr(prefix) });
const said = (prefix: string, hops: readonly string[], source: 'ibgp' | 'ebgp' = 'ibgp') => ({
  type: 'route' as const,
  prefix: parseCidr(prefix),
  nextHops: hops.map((hop) => parseIp(hop)),
  source,
});
/** The same routes, in whatever order and from whomever. */
const table = (source: 'ibgp' | 'ebgp', turned: boolean) => [
  said('10.66.0.0/26', [two], source),
  said(many, turned ? [three, two] : [two, three], source),
  said(many6, turned ? [three6, two6] : [two6, three6], source),
  said('fd00:66::/122', [two6], source),
  // The pod's own address, and this node's block, which BGP tells as well.
  said(`${address}/32`, [two], source),
  said('10.65.0.0/26', [two], source),
];

/** What `ip monitor` says from now on. */
async function watch(): Promise<string[]> {
  const lines: string[] = [];
  const child = spawn('nsenter', [`--net=${n.namespace.path}`, 'ip', 'monitor', 'route']);
  monitor = child;
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line.trim()));
  await until(() => marked(lines, '198.18.0.0/24'), { within, what: 'the monitor' });
  return lines;
}

/** Whether a route of others, made now, is seen; everything before it is then, too. */
async function marked(lines: readonly string[], prefix: string): Promise<boolean> {
  await n.namespace.exec(
    'ip',
    'route',
    'replace',
    prefix,
    'via',
    three,
    'proto',
    '4',
    'metric',
    String(lines.length + 1),
  );
  return lines.some((line) => line.startsWith(prefix));
}

test('equal routes are left alone, whatever becomes of the paths and of the speaker', async () => {
  n = await RealNode.make('nft');
  await n.router.exec('ip', 'address', 'add', `${three6}/64`, 'dev', 'r0', 'nodad');
  await n.addPod('caliweb', address);
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put(podKey('web'), pod('web', { addresses: [address] }));
  feed = await FeedServer.listen(n.runDir);
  const felix = n.start();
  const connected = () => until(() => feed?.connections === 1, { within, what: 'the connection of the feed' });
  await connected();
  feed.say(hello, ...table('ibgp', false), endOfSnapshot);
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const routes = async () => [...(await n.routes()), ...(await n.routes('-6'))].join('\n');
  await until(async () => /10\.67.*192\.0\.2\.3.*fd00:67.*db8::3/s.test(await routes()), {
    within,
    what: 'routes',
  });
  const before = await routes();
  const lines = await watch();
  const passes = () => n.felix?.status().lastApply?.at;
  const passed = async (what: string, action: () => unknown) => {
    const last = passes();
    await action();
    await until(() => passes() !== last, { within, what });
  };

  // Said again, by another peer, with the hops in another order, gone and come at once.
  await passed('the same again', () => feed?.say(...table('ibgp', false)));
  await passed('by others', () => feed?.say(...table('ebgp', true)));
  await passed('a flap', () => feed?.say(...[many, many6, '10.66.0.0/26'].map(withdraw), ...table('ibgp', true)));
  // The speaker goes away and comes again with the same table.
  await feed.close();
  await until(() => !felix.status().feed.connected, { within, what: 'the end of the feed' });
  feed = await FeedServer.listen(n.runDir);
  await connected();
  await passed('another speaker', () => feed?.say(hello, ...table('ebgp', false), endOfSnapshot));
  await until(() => felix.status().feed.stale === 0, { within, what: 'the end of the snapshot' });
  await until(() => marked(lines, '198.18.1.0/24'), { within, what: 'the marker' });
  // The kernel's own routes to its link-local addresses come in their own time.
  expect(lines.filter((line) => !/198\.18\.|proto kernel/.test(line))).toEqual([]);
  expect(await routes()).toBe(before);

  // One that differs is written, and nothing else.
  feed.say(said(many6, [three6]), said(many, [three]));
  await until(() => marked(lines, '198.18.2.0/24'), { within, what: 'the second marker' });
  await until(() => lines.some((line) => line.startsWith(many6)), { within, what: 'the change' });
  const changes = lines.filter((line) => /^(Deleted )?(fd00|10\.)/.test(line));
  expect(changes.filter((line) => !line.includes('67:') && !line.includes('10.67.'))).toEqual([]);
  expect(await routes()).toMatch(new RegExp(`${many} via ${three} dev up0`));
  expect(await routes()).toMatch(new RegExp(`${many6} via ${three6} dev up0`));
  expect(await routes()).not.toContain('nexthop');
});
