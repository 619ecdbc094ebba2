import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { ExportContext } from '../../../src/bgp/exporting.ts';
import { type Event, type Machine, step } from '../../../src/bgp/fsm.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import type { Negotiated, SessionConfig } from '../../../src/bgp/negotiate.ts';
import { AdjRibIn, type Source } from '../../../src/bgp/rib.ts';
import { RouteTable } from '../../../src/bgp/table.ts';
import { formatAsPath } from '../../../src/bgp/wire/aspath.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { readRefresh, writeMessage } from '../../../src/bgp/wire/message.ts';
import { cidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readNotification } from '../../../src/bgp/wire/notification.ts';
import { readOpen } from '../../../src/bgp/wire/open.ts';
import { readUpdate, type Update } from '../../../src/bgp/wire/update.ts';
import { type Family, parseCidr, parseIp } from '../../../src/model/address.ts';

/*
 * A session with BIRD as it went over the wire, replayed through the state machine and the tables: what BIRD said goes in,
 * and what comes out must be what was sent then.
 */

interface Recording {
  readonly messages: readonly { readonly from: 'us' | 'bird'; readonly octets: string }[];
}

const fixture = new URL('../../fixtures/bird-session.json', import.meta.url);
const recording: Recording = JSON.parse(readFileSync(fixture, 'utf8'));
const codec = { fourOctetAs: true, external: true };
const both: ReadonlySet<Family> = new Set<Family>([4, 6]);
const config: SessionConfig = {
  asn: 64512,
  identifier: parseIp('10.99.0.1'),
  peerAsn: 65010,
  families: [4],
  holdSeconds: 90,
  restart: { restarted: false, restartSeconds: 60, preserved: false },
  initiative: 'dial',
  connectRetrySeconds: 1,
  idleHoldSeconds: 1,
};

/** The pure parts of a speaker with one peer; sockets and timers are the test's. */
class Replay {
  readonly sent: Uint8Array[] = [];
  machine: Machine = { state: 'Idle' };
  readonly source: Source = {
    name: 'bird',
    kind: 'ebgp',
    address: parseIp('10.99.0.2'),
    identifier: parseIp('0.0.0.0'),
  };
  readonly #work: (() => void)[] = [];
  readonly #interner = new AttributeInterner();
  readonly table: RouteTable;
  readonly adj: AdjRibIn;

  constructor(originations: readonly string[]) {
    const nothing = () => undefined;
    this.table = new RouteTable(
      4,
      {
        schedule: (work) => void this.#work.push(work),
        interner: this.#interner,
        selected: nothing,
        settled: nothing,
        oversized: () => expect.fail('too long'),
      },
      false,
    );
    this.adj = new AdjRibIn(this.source, this.table.rib);
    const local = new AdjRibIn({ name: 'local', kind: 'local', identifier: parseIp('0.0.0.0') }, this.table.rib);
    const own = this.#interner.intern({ origin: 'igp', asPath: [] });
    for (const prefix of originations) local.announce(this.table.rib.prefixes.internCidr(parseCidr(prefix)), own);
    this.turn();
  }

  event(event: Event): void {
    const { machine, actions } = step(this.machine, event, config);
    this.machine = machine;
    for (const action of actions) {
      if (action.do === 'send') this.sent.push(writeMessage(action.message));
      if (action.do === 'up') this.#up(action.negotiated);
      if (action.do === 'ended') {
        this.table.leave(this.source);
        this.adj.clear();
      }
    }
    this.turn();
  }

  hear(octets: Uint8Array): void {
    this.event(this.#heard(octets));
  }

  #heard(octets: Uint8Array): Event {
    const { type, body } = readFrame(octets) ?? expect.fail('incomplete');
    switch (type) {
      case 'open':
        return { on: 'open', open: readOpen(body) };
      case 'keepalive':
        return { on: 'keepalive' };
      case 'notification':
        return { on: 'notification', notification: readNotification(body) };
      case 'refresh':
        if (readRefresh(body)?.subtype === 'request') this.table.refresh(this.source, true);
        return { on: 'refresh' };
      case 'update':
        this.#learn(readUpdate(body, codec, both));
        return { on: 'update' };
    }
  }

  turn(): void {
    for (let work = this.#work.shift(); work; work = this.#work.shift()) work();
  }

  #up(negotiated: Negotiated): void {
    this.source.identifier = negotiated.identifier;
    const self = parseIp('10.99.0.1');
    const context: ExportContext = { family: 4, asn: 64512, ...codec, self, nextHopMode: 'auto' };
    const send = (messages: readonly Uint8Array[]) => void this.sent.push(...messages);
    this.table.join({ source: this.source, send, writable: () => true }, context);
  }

  #learn({ withdrawn, announced }: Update): void {
    const { prefixes } = this.table.rib;
    for (const prefix of withdrawn.flatMap(cidrsOf)) {
      const id = prefixes.findCidr(prefix);
      if (id !== undefined) this.adj.withdraw(id);
    }
    for (const { block, attributes } of announced) {
      const shared = this.#interner.intern(attributes);
      for (const prefix of cidrsOf(block)) this.adj.announce(prefixes.internCidr(prefix), shared);
    }
  }
}

/** What a message says, whatever the order of the prefixes in it; of an OPEN, what a session depends on. */
function meaning(octets: Uint8Array): string[] {
  const { type, body } = readFrame(octets) ?? expect.fail('incomplete');
  if (type === 'open') {
    const { asn, holdSeconds, identifier } = readOpen(body);
    return [`open ${asn} ${holdSeconds} ${identifier}`];
  }
  if (type !== 'update') return [`${type} ${Buffer.from(body).toString('hex')}`];
  const { announced, endOfRib } = readUpdate(body, codec, both);
  // Withdrawing what was never announced says nothing.
  const routes = announced.flatMap(({ block, attributes }) =>
    cidrsOf(block).map((prefix) => `route ${prefix} ${attributes.nextHop} ${formatAsPath(attributes.asPath)}`),
  );
  return endOfRib === undefined ? routes.sort() : ['end of rib'];
}

test('a recorded session with BIRD comes out as it did', () => {
  const replay = new Replay(['10.65.1.0/26', '10.65.9.9/32']);
  const tables: string[][] = [];
  replay.event({ on: 'start' });
  replay.event({ on: 'tcpUp' });
  for (const { from, octets } of recording.messages) {
    if (from === 'us') continue;
    replay.hear(Buffer.from(octets, 'hex'));
    const learnt = [...replay.adj.entries()].map(([id]) => replay.table.rib.prefixes.cidr(id)).sort();
    if (String(learnt) !== String(tables.at(-1))) tables.push(learnt);
  }
  const recorded = recording.messages.filter(({ from }) => from === 'us');
  expect(replay.sent.flatMap(meaning)).toEqual(recorded.flatMap(({ octets }) => meaning(Buffer.from(octets, 'hex'))));
  expect(tables).toEqual([
    [],
    ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24'],
    ['198.51.100.0/24', '203.0.113.0/24'],
    [],
  ]);
  expect(replay.machine.state).toBe('Idle');
});
