import { expect, test } from 'vitest';
import type { PeerStatus } from '../../../src/bgp/peer.ts';
import { Listing } from '../../../src/cli/listing.ts';
import type { Format } from '../../../src/cli/output.ts';
import { explanationPage, peerPage, routePage } from '../../../src/cli/peering-pages.ts';
import { parseCidr } from '../../../src/model/address.ts';

function listed(format: Format, items: readonly string[]): string {
  let text = '';
  const listing = new Listing<string>(
    format,
    ['name', 'length'],
    (item) => [[item, String(item.length)]],
    (more) => {
      text += more;
    },
  );
  for (const item of items) listing.add(item);
  listing.end('nothing here');
  return text;
}

test('a list is a table, a JSON array or a YAML sequence, also when it is empty', () => {
  expect(listed('table', ['a', 'long'])).toBe('NAME   LENGTH\na      1\nlong   4\n');
  expect(listed('json', ['a', 'b'])).toBe('[\n"a",\n"b"\n]\n');
  expect(listed('yaml', ['a', 'b'])).toBe('- a\n- b\n');
  expect(listed('table', [])).toBe('nothing here\n');
  expect(listed('json', [])).toBe('[]\n');
  expect(listed('yaml', [])).toBe('[]\n');
});

test('a long table comes in batches, and every row is there', () => {
  const items = Array.from({ length: 1500 }, (_, i) => `item${i}`);
  const lines = listed('table', items).trimEnd().split('\n');
  expect(lines).toHaveLength(1501);
  expect(lines[1500]).toBe('item1499   8');
});

const none = { open: 0, update: 0, notification: 0, keepalive: 0, refresh: 0 };
const peer: PeerStatus = {
  name: 'tor',
  role: 'peer',
  address: '10.0.0.2',
  port: 179,
  asn: 65001,
  state: 'Idle',
  since: '2026-01-01T00:00:00.000Z',
  flaps: 3,
  families: { ipv4: { received: 5, withdrawn: 1, accepted: 4, stale: 0, preferred: 3, advertised: 2, endOfRib: true } },
  faults: { 'AS_PATH withdraw': 2 },
  rejected: {},
  messages: { received: { ...none, update: 7 }, sent: none },
  remembered: 0,
  lastError: { by: 'peer', reason: 'cease/shutdown (6/2)', at: '2026-01-01T00:00:00.000Z' },
};

test('the page of a peer says who sent the last error, and what was malformed', () => {
  const page = peerPage(peer);
  expect(page).toContain('last error:    cease/shutdown (6/2), from the peer, at 2026-01-01T00:00:00.000Z\n');
  expect(page).toContain('malformed:     2 AS_PATH withdraw\n');
  expect(page).toContain('received:      7 update\n');
  expect(page).toMatch(/ipv4 +5 +1 +4 +0 +3 +2 +yes/);
});

test('routes and explanations show each path with its attributes and its fate', () => {
  const path = { peer: 'tor', source: 'ebgp', stale: false, verdict: 'best', asPath: '65001', origin: 'igp' } as const;
  const prefix = parseCidr('192.0.2.0/24');
  expect(
    routePage({ prefix, originated: false, paths: [{ ...path, nextHop: '10.0.0.2', communities: ['1:2'] }] }),
  ).toBe(
    '192.0.2.0/24\n  best: from tor (ebgp)\n      next hop 10.0.0.2, AS path 65001, origin igp\n      communities 1:2\n',
  );
  const rejected = [{ peer: 'spine', reason: 'asLoop', asPath: '64512', origin: 'igp' }];
  const page = explanationPage({
    prefix,
    selected: true,
    summary: 'path from tor is used; no other was worse',
    paths: [{ ...path, why: 'the only path' }],
    rejected,
  });
  expect(page).toContain('  best: from tor (ebgp): the only path\n');
  expect(page).toContain('  refused: from spine: asLoop\n');
});
