import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Explanation } from '../../../src/bgp/views.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { type FeedReader, NodeProcess } from '../../support/daemons/node.ts';
import { until } from '../../support/wait.ts';

/** A node in the mesh with BIRD, whose route has a next hop beyond the link. */
const prefix = '192.0.2.0/24';
const nextHop = '203.0.113.9';

let link: Link;
let us: NodeProcess;
let bird: Bird;
let feed: FeedReader;

beforeEach(() => {
  link = new Link();
  us = new NodeProcess(link, 'us');
  bird = new Bird(link);
});

afterEach(async () => {
  feed.close();
  await link.close();
});

test('a path takes part while this node has a route to its next hop', async () => {
  us.start();
  feed = us.reader();
  const exporting = `bgp_next_hop = ${nextHop};`;
  await bird.start({ asn: 64512, peerAsn: 64512, routes: [prefix], exporting, channel: '' });
  const why = async () => (await us.status(`/v1/why?prefix=${prefix}`)) as Explanation;
  await until(async () => (await why()).paths[0]?.verdict === 'nextHopUnreachable', {
    within: 30_000,
    what: 'the path without a route to its next hop',
  });
  expect(await why()).toMatchObject({ selected: false, summary: 'known, but no next hop has a route to it' });
  expect(await us.status('/v1/status')).toMatchObject({ nextHops: { unreachable: [nextHop] } });
  expect(feed.routes.has(prefix)).toBe(false);

  await link.exec('us', 'ip', ['route', 'add', `${nextHop}/32`, 'via', addresses.them.four, 'metric', '50']);
  await feed.has(prefix);
  expect(feed.routes.get(prefix)).toMatchObject({ nextHops: [nextHop] });
  expect(await why()).toMatchObject({ selected: true });

  await link.exec('us', 'ip', ['route', 'del', `${nextHop}/32`]);
  await until(() => feed.lost.includes(prefix), { within: 20_000, what: 'the route withdrawn from the feed' });
});
