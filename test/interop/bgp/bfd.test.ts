import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PeerStatus } from '../../../src/bgp/peer.ts';
import type { PeerConfig } from '../../../src/bgp/settings.ts';
import { parseIp } from '../../../src/model/address.ts';
import { Bird, type BirdOptions } from '../../support/daemons/bird.ts';
import { addresses, type Host, Link } from '../../support/daemons/network.ts';
import { FrrRouter } from '../../support/daemons/router.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

const asn = 65010;
const ours = ['10.65.1.0/26', 'fd65:1::/122'];
const theirs = ['192.0.2.0/24', '2001:db8:7::/48'];
const timing = 'interval 100 ms; multiplier 3;';
const extra = `protocol bfd bfd1 { interface "eth0" { ${timing} }; multihop { ${timing} }; }`;

let link: Link;
let bird: Bird;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  bird = new Bird(link);
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

function peers(multihop: boolean): PeerConfig[] {
  const bfd = { minTxMs: 100, minRxMs: 100, multiplier: 3, multihop };
  return [peerOf(4, asn, { bfd }), peerOf(6, asn, { bfd })];
}

/** Brings up BGP and BFD for both families. */
async function up(multihop = false): Promise<void> {
  const protocol = multihop ? 'bfd on; multihop 4;' : 'bfd on;';
  const options: BirdOptions = { asn, peerAsn: 64512, routes: theirs, protocol, extra };
  await bird.start(options);
  speaker.start(configOf(64512, peers(multihop), ours));
  await speaker.established();
  await bfdUp();
  for (const prefix of theirs) await speaker.learnt(prefix);
}

async function bfdUp(): Promise<void> {
  await until(async () => (await speaker.peers()).every(({ bfd }) => bfd?.state === 'Up' && bfd.remoteState === 'Up'), {
    within: 30_000,
    what: 'BFD up on our side',
  });
  await until(async () => (await sessions()).filter(({ state }) => state === 'Up').length === 2, {
    within: 30_000,
    what: 'BFD up in BIRD',
  });
}

/** BIRD's sessions: address, device, state, since, interval and timeout in seconds. */
async function sessions(): Promise<{ address: string; state: string; interval: number; timeout: number }[]> {
  const lines = (await bird.ask('show bfd sessions')).split('\n');
  return lines.flatMap((line) => {
    const match = /^(\S+[.:]\S+)\s+\S+\s+(Up|Down|Init|AdminDown)\s+\S+\s+(\S+)\s+(\S+)/.exec(line.trim());
    if (!match) return [];
    const [, address = '', state = '', interval, timeout] = match;
    return [{ address, state, interval: Number(interval), timeout: Number(timeout) }];
  });
}

async function down(reason: RegExp): Promise<PeerStatus[]> {
  return until(
    async () => {
      const all = await speaker.peers();
      return all.every(({ lastError }) => reason.test(lastError?.reason ?? '')) ? all : undefined;
    },
    { within: 30_000, what: `every session down for ${reason}` },
  );
}

describe.each([
  { kind: 'single hop', multihop: false },
  { kind: 'multihop', multihop: true },
])('$kind', ({ multihop }) => {
  test('up on both sides, for both families, with the intervals agreed on', async () => {
    await up(multihop);
    const agreed = await until(
      async () => {
        const found = await sessions();
        return found.every(({ interval, timeout }) => interval === 0.1 && timeout === 0.3) ? found : undefined;
      },
      { within: 20_000, what: 'BIRD sends every 100 ms' },
    );
    expect(agreed.map(({ address }) => address).sort()).toEqual([addresses.us.four, addresses.us.six]);
    for (const { bfd } of await speaker.peers()) {
      expect(bfd).toMatchObject({ diagnostic: 'none', transmitMs: 100, detectionMs: 300 });
    }
    expect((await speaker.peers()).map(({ flaps }) => flaps)).toEqual([0, 0]);
  });

  test('link down: BGP goes down for BFD, the routes go, and all comes back with the link', async () => {
    // BIRD's multihop socket does not come back to an address that was gone for a while.
    await link.exec('them', 'sysctl', ['-q', '-w', 'net.ipv6.conf.eth0.keep_addr_on_down=1']);
    await up(multihop);
    await link.exec('them', 'ip', ['link', 'set', 'eth0', 'down']);
    const found = await down(/^BFD Down: no packet within the detection time$/);
    for (const { lastError, families } of found) {
      expect(lastError?.by).toBe('us');
      for (const { accepted, stale } of Object.values(families)) expect([accepted, stale]).toEqual([0, 0]);
    }
    for (const prefix of theirs) await speaker.forgotten(prefix);
    expect(speaker.output).toContain('"from":"Up","to":"Down","diagnostic":"detectionTimeExpired"');

    await link.exec('them', 'ip', ['link', 'set', 'eth0', 'up']);
    await speaker.established();
    await bfdUp();
    for (const prefix of theirs) await speaker.learnt(prefix);
  });
});

test('a neighbour that hangs without a word is down by BFD', async () => {
  await up();
  void bird.kill('SIGSTOP');
  await down(/^BFD Down: no packet within the detection time$/);
  for (const prefix of theirs) await speaker.forgotten(prefix);
});

test('BIRD killed: graceful restart does not keep the routes past the detection time', async () => {
  await up();
  await bird.kill();
  await until(async () => (await speaker.peers()).every(({ bfd }) => bfd?.state === 'Down'), {
    within: 20_000,
    what: 'BFD down',
  });
  for (const prefix of theirs) await speaker.forgotten(prefix);
});

test('we hang: BIRD takes its sessions down by BFD', async () => {
  await up();
  void speaker.kill('SIGSTOP');
  await until(async () => (await sessions()).every(({ state }) => state === 'Down'), {
    within: 20_000,
    what: 'BFD down in BIRD',
  });
  for (const prefix of ours) await bird.forgotten(prefix);
});

test('BFD is added to an established session without a flap', async () => {
  await bird.start({ asn, peerAsn: 64512, routes: theirs, protocol: 'bfd on;', extra });
  speaker.start(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours));
  await speaker.established();
  expect((await speaker.peers()).map(({ bfd }) => bfd)).toEqual([undefined, undefined]);
  speaker.apply(configOf(64512, peers(false), ours));
  await bfdUp();
  const found = await speaker.peers();
  expect(found.map(({ state, flaps }) => `${state} ${flaps}`)).toEqual(['Established 0', 'Established 0']);
});

test('a packet that came over a router is not heard', async () => {
  await up();
  const drops = async () => {
    const sockets = await link.exec('us', 'cat', ['/proc/net/udp']);
    return Number(/^\s*\d+: 00000000:0EC8 .* (\d+)\s*$/m.exec(sockets)?.[1]);
  };
  const before = await drops();
  // Down, of a discriminator that begins anew: with TTL 255 it would end the session.
  const octets = '2040031800000001000000000000000000000000000000'.padEnd(48, '0').replace(/../g, '\\x$&');
  await link.exec('them', 'bash', ['-c', `printf '${octets}' > /dev/udp/${addresses.us.four}/3784`]);
  await until(async () => (await drops()) > before, { within: 10_000, what: 'the packet dropped by the kernel' });
  expect((await speaker.peers()).map(({ bfd }) => bfd?.state)).toEqual(['Up', 'Up']);
});

test('over IPv6 link-local addresses', async () => {
  const [remote, local] = await Promise.all([linkLocal('them'), linkLocal('us')]);
  const session = `protocol bgp lla { local ${remote} as ${asn}; neighbor ${local} % 'eth0' as 64512; bfd on;
    connect delay time 1; ipv6 { import all; export where source = RTS_STATIC; }; }`;
  await bird.start({ asn, peerAsn: 64512, routes: theirs, extra: `${extra}\n${session}` });
  const bfd = { minTxMs: 100, minRxMs: 100, multiplier: 3, multihop: false };
  const { localAddress: _, ...peer } = peerOf(6, asn, { bfd, address: parseIp(remote), interface: 'eth0' });
  speaker.start(configOf(64512, [peer], ours));
  await speaker.established();
  await until(async () => (await speaker.peers()).every(({ bfd: found }) => found?.state === 'Up'), {
    within: 30_000,
    what: 'BFD up on our side',
  });
  await until(async () => (await bird.ask('show bfd sessions')).includes(`${local}`), {
    within: 10_000,
    what: 'the session in BIRD',
  });
  await link.exec('them', 'ip', ['link', 'set', 'eth0', 'down']);
  await down(/^BFD Down: no packet within the detection time$/);
});

async function linkLocal(host: Host): Promise<string> {
  return until(
    async () => {
      const text = await link.exec(host, 'ip', ['-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'link', '-tentative']);
      return /inet6 (fe80:[^/]+)/.exec(text)?.[1];
    },
    { within: 10_000, what: `link-local address of ${host}` },
  );
}

test.each([
  { kind: 'single hop', multihop: false },
  { kind: 'multihop', multihop: true },
])('with FRR, $kind: up on both sides, and a lost link ends the session', async ({ multihop }) => {
  const frr = new FrrRouter(link);
  const us = addresses.us.four;
  const configuration = `router bgp ${asn}
 bgp router-id ${addresses.them.four}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor ${us} remote-as 64512
 neighbor ${us} timers connect 1
 neighbor ${us} bfd 3 100 100
${multihop ? ` neighbor ${us} ebgp-multihop 4\n neighbor ${us} update-source ${addresses.them.four}` : ''}
 address-family ipv4 unicast
  network 192.0.2.0/24
 exit-address-family
`;
  await frr.start(configuration, 179, { bfd: true });
  const bfd = { minTxMs: 100, minRxMs: 100, multiplier: 3, multihop };
  speaker.start(configOf(64512, [peerOf(4, asn, { bfd })], ours.slice(0, 1)));
  await speaker.learnt('192.0.2.0/24');
  const [status] = await until(
    async () => {
      const found = await speaker.peers();
      return found.every((peer) => peer.bfd?.state === 'Up' && peer.bfd.remoteState === 'Up') ? found : undefined;
    },
    { within: 30_000, what: 'BFD up on our side' },
  );
  expect(status?.bfd).toMatchObject({ transmitMs: 100, detectionMs: 300 });
  await until(async () => (await frr.show('show bfd peers')).includes('Status: up'), {
    within: 20_000,
    what: 'BFD up in FRR',
  });
  await link.exec('us', 'ip', ['link', 'set', 'eth0', 'down']);
  await down(/^BFD Down: /);
  await speaker.forgotten('192.0.2.0/24');
  await link.exec('us', 'ip', ['link', 'set', 'eth0', 'up']);
  await speaker.established();
  await speaker.learnt('192.0.2.0/24');
});
