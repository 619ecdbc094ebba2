import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addresses, Link } from '../../support/daemons/network.ts';
import { blocks, type FeedReader, NodeProcess } from '../../support/daemons/node.ts';
import { until } from '../../support/wait.ts';

/** Two nodes of a mesh, each `margay bgp` with its own copy of the datastore. */
let link: Link;
let us: NodeProcess;
let them: NodeProcess;
let ours: FeedReader;
let theirs: FeedReader;

beforeEach(async () => {
  link = new Link();
  us = new NodeProcess(link, 'us');
  them = new NodeProcess(link, 'them');
  us.start();
  them.start();
  ours = us.reader();
  theirs = them.reader();
  await ours.has(...blocks.them);
  await theirs.has(...blocks.us);
  // Whoever is killed before its first snapshot is complete makes one less than the tests count.
  await until(() => ours.snapshots === 1 && theirs.snapshots === 1, { within: 60_000, what: 'both snapshots' });
});

afterEach(async () => {
  ours.close();
  theirs.close();
  await link.close();
});

test('each learns the other’s blocks in both families, with the other as next hop', () => {
  expect(ours.routes.get('10.65.2.0/26')).toMatchObject({ nextHops: [addresses.them.four], source: 'ibgp' });
  expect(theirs.routes.get('fd65::/122')).toMatchObject({ nextHops: [addresses.us.six], source: 'ibgp' });
});

test('the node with the higher address opens the sessions', async () => {
  const { peers } = (await us.status('/v1/peers')) as { peers: { name: string; state: string; port: number }[] };
  expect(peers.map(({ name, state }) => [name, state])).toEqual([
    ['mesh-them-ipv4', 'Established'],
    ['mesh-them-ipv6', 'Established'],
  ]);
  expect(us.output).not.toContain('"to":"Connect"');
  for (const node of [us, them]) expect(node.output).not.toContain('"by":"us"');
});

describe.each(['SIGKILL', 'SIGTERM'] as const)('%s and a new start', (signal) => {
  test.each(['us', 'them'] as const)('of %s takes no route from either side', async (name) => {
    const [victim, reader] = name === 'us' ? [us, ours] : [them, theirs];
    for (let round = 1; round <= 2; round++) {
      await victim.kill(signal);
      victim.start();
      await until(() => reader.snapshots === round + 1, { within: 40_000, what: 'the snapshot after the restart' });
      await until(async () => ((await victim.status('/v1/status')) as { converged: boolean }).converged, {
        within: 40_000,
        what: 'convergence',
      });
    }
    expect([...ours.lost, ...theirs.lost]).toEqual([]);
    expect(us.output + them.output).not.toContain('refused during idle hold');
    await ours.has(...blocks.them);
    await theirs.has(...blocks.us);
  });
});
