import { expect, test } from 'vitest';
import { initialStatus } from '../../../src/bgp/bfd/settings.ts';
import type { PeerStatus } from '../../../src/bgp/peer.ts';
import { Listing } from '../../../src/cli/listing.ts';
import type { Format } from '../../../src/cli/output.ts';
import { explanationPage, peerPage, routePage } from '../../../src/cli/peering-pages.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

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
  expect(page).not.toContain('session end');
  expect(page).toContain('malformed:     2 AS_PATH withdraw\n');
  expect(page).toContain('received:      7 update\n');
  expect(page).toMatch(/ipv4 +5 +1 +4 +0 +3 +2 +yes/);
});

test('the page of a peer says how the session ended where later attempts failed for another reason', () => {
  const sessionEnd = peer.lastError ?? expect.fail('no error');
  const lastError = { by: 'tcp', reason: 'connect ECONNREFUSED', at: '2026-01-01T00:00:01.000Z' } as const;
  const page = peerPage({ ...peer, lastError, sessionEnd });
  expect(page).toContain('last error:    connect ECONNREFUSED, from the connection, at 2026-01-01T00:00:01.000Z\n');
  expect(page).toContain('session end:   cease/shutdown (6/2), from the peer, at 2026-01-01T00:00:00.000Z\n');
});

test('the page of a peer names every capability that both sides have, and what BFD says', () => {
  const families = [4, 6] as const;
  const negotiated: NonNullable<PeerStatus['negotiated']> = {
    peerAsn: 65001,
    identifier: parseIp('10.0.0.2'),
    external: true,
    holdSeconds: 90,
    keepaliveSeconds: 30,
    families,
    fourOctetAs: true,
    routeRefresh: true,
    enhancedRefresh: true,
    extendedMessages: true,
    extendedNextHop: true,
    pathsSent: [4],
    pathsReceived: families,
    restart: { restarted: false, notification: true, restartSeconds: 120, families: [] },
    longLived: [{ family: 4, preserved: true, staleSeconds: 3600 }],
  };
  const bfd = { ...initialStatus, state: 'Up', detectionMs: 900 } as const;
  const page = peerPage({ ...peer, negotiated, bfd });
  expect(page).toContain('identifier:    10.0.0.2, external\n');
  const all = [
    'IPv4 unicast, IPv6 unicast, four-octet AS, enhanced route refresh, extended messages, IPv6 next hops of IPv4',
    'several paths of IPv4 sent, several paths of IPv4 and IPv6 received',
    'graceful restart 120 s (notifications too), long-lived restart of IPv4 3600 s',
  ];
  expect(page).toContain(`capabilities:  ${all.join(', ')}\n`);
  expect(page).toContain('BFD:           Up, down after 900 ms without a packet\n');
  const { restart: _, longLived: _longLived, pathsSent: _sent, pathsReceived: _received, ...least } = negotiated;
  const old = { fourOctetAs: false, routeRefresh: true, enhancedRefresh: false, extendedMessages: false };
  expect(peerPage({ ...peer, negotiated: { ...least, ...old, families: [4], extendedNextHop: false } })).toContain(
    'capabilities:  IPv4 unicast, route refresh\n',
  );
  expect(peerPage({ ...peer, bfd: { ...bfd, state: 'Down', diagnostic: 'pathDown' } })).toContain(
    'BFD:           Down (pathDown)\n',
  );
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
