import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bird } from '../../support/daemons/bird.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

const ours = ['10.65.1.0/26', '10.65.9.9/32', 'fd65:1::/122'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24', '2001:db8:7::/48'];

let link: Link;
let bird: Bird;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  bird = new Bird(link);
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

async function exchanged(): Promise<void> {
  await speaker.established();
  for (const prefix of theirs) await speaker.learnt(prefix);
  for (const prefix of ours) await bird.learnt(prefix);
}

/** Looks at BIRD's table all the time that `during` takes; returns how often a prefix was missing. */
async function gaps(prefix: string, during: () => Promise<void>): Promise<{ looks: number; missing: number }> {
  let looks = 0;
  let missing = 0;
  let over = false;
  const watching = (async () => {
    while (!over) {
      looks++;
      if ((await bird.route(prefix)) === '') missing++;
    }
  })();
  try {
    await during();
  } finally {
    over = true;
    await watching;
  }
  return { looks, missing };
}

describe.each([
  { kind: 'eBGP', asn: 65010, path: 'BGP.as_path: 64512\n', source: 'ebgp' },
  { kind: 'eBGP to a four-octet AS', asn: 4200000001, path: 'BGP.as_path: 64512\n', source: 'ebgp' },
  { kind: 'iBGP', asn: 64512, path: 'BGP.as_path: \n', source: 'ibgp' },
])('$kind with BIRD', ({ asn, path, source }) => {
  test('both families are exchanged, withdrawn and announced again', async () => {
    await bird.start({ asn, peerAsn: 64512, routes: theirs });
    speaker.start(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours));
    await exchanged();

    const [four] = await speaker.established('them-4');
    expect(four?.negotiated).toMatchObject({
      peerAsn: asn,
      fourOctetAs: true,
      routeRefresh: true,
      external: asn !== 64512,
    });
    expect(await bird.learnt('10.65.1.0/26')).toContain(path);
    expect(await bird.learnt('10.65.1.0/26')).toContain(`BGP.next_hop: ${addresses.us.four}`);
    expect(await bird.learnt('fd65:1::/122')).toContain(`BGP.next_hop: ${addresses.us.six}`);
    const learnt = await speaker.learnt('2001:db8:7::/48');
    expect(learnt.paths).toMatchObject([{ peer: 'them-6', source, nextHop: addresses.them.six, verdict: 'best' }]);

    await bird.reconfigure({ asn, peerAsn: 64512, routes: theirs.slice(1) });
    await speaker.forgotten('192.0.2.0/24');
    await bird.reconfigure({ asn, peerAsn: 64512, routes: theirs });
    await speaker.learnt('192.0.2.0/24');

    speaker.apply(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours.slice(1)));
    await bird.forgotten('10.65.1.0/26');
    speaker.apply(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours));
    await bird.learnt('10.65.1.0/26');
    expect((await speaker.peers()).filter(({ flaps }) => flaps > 0)).toEqual([]);
  });
});

test('the route feed gives the snapshot of what BIRD announced', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  const [hello, ...rest] = await speaker.feed();
  expect(hello).toEqual({ type: 'hello', version: 1 });
  expect(rest.at(-1)).toEqual({ type: 'endOfSnapshot' });
  const { four, six } = addresses.them;
  expect(rest.slice(0, -1)).toHaveLength(3);
  expect(rest).toContainEqual({ type: 'route', prefix: '192.0.2.0/24', nextHops: [four], source: 'ebgp' });
  expect(rest).toContainEqual({ type: 'route', prefix: '2001:db8:7::/48', nextHops: [six], source: 'ebgp' });
});

test('a route refresh is answered without a flap', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  await exchanged();
  const updates = async () => Number(/Import updates:\s+(\d+)/.exec(await bird.ask('show protocols all us4'))?.[1]);
  const before = await updates();
  await bird.ask('reload in us4');
  await until(async () => (await updates()) >= before + 2, { within: 20_000, what: 'routes announced again' });
  expect((await speaker.peers()).filter(({ flaps }) => flaps > 0)).toEqual([]);
});

test('killed by SIGKILL and started again: BIRD never loses a route, and drops what we no longer have', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  await exchanged();
  for (const prefix of ['10.65.1.0/26', 'fd65:1::/122']) {
    const { looks, missing } = await gaps(prefix, async () => {
      await speaker.kill();
      await until(async () => /Neighbor graceful restart active/.test(await bird.ask('show protocols all us4')), {
        within: 20_000,
        what: 'BIRD notices',
      });
      speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours.slice(0, 1).concat(ours.slice(2))), {
        restarted: true,
      });
      await speaker.established();
      await bird.forgotten('10.65.9.9/32');
    });
    expect(looks).toBeGreaterThan(3);
    expect(missing).toBe(0);
    speaker.apply(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
    await exchanged();
  }
});

test('a restarted speaker does not end its snapshot before BIRD has told everything', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  await exchanged();
  await speaker.kill();
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours), { restarted: true });
  const messages = await speaker.feed();
  expect(messages.filter(({ type }) => type === 'route')).toHaveLength(3);
});

test('BIRD killed and recovered: its routes stay as stale, and go when it no longer tells them', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  await exchanged();
  await bird.kill();
  await until(async () => (await speaker.peers()).every(({ state }) => state !== 'Established'), {
    within: 20_000,
    what: 'the loss of the sessions',
  });
  const kept = await speaker.routes();
  for (const prefix of theirs) expect(kept.find((route) => route.prefix === prefix)?.paths[0]?.stale).toBe(true);

  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs.slice(1) }, true);
  await speaker.established();
  await speaker.forgotten('192.0.2.0/24');
  await until(async () => (await speaker.learnt('2001:db8:7::/48')).paths[0]?.stale === false, {
    within: 30_000,
    what: 'fresh routes',
  });
  expect((await speaker.learnt('198.51.100.0/24')).paths[0]?.stale).toBe(false);
});

test('BIRD stopped in order: its routes go at once, and its reason is shown', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
  await exchanged();
  await bird.ask('disable us4');
  await speaker.forgotten('192.0.2.0/24');
  const [four] = (await speaker.peers()).filter(({ name }) => name === 'them-4');
  expect(four?.lastError).toMatchObject({ by: 'peer', reason: expect.stringContaining('cease/shutdown (6/2)') });
  await speaker.learnt('2001:db8:7::/48');
});

test('a wrong AS number is refused with 2/2, and BIRD sees the reason', async () => {
  await bird.start({ asn: 65011, peerAsn: 64512, routes: theirs });
  speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
  await until(async () => /Received: Bad peer AS/.test(await bird.ask('show protocols all us4')), {
    within: 30_000,
    what: 'our NOTIFICATION in BIRD',
  });
  const [peer] = await speaker.peers();
  expect(peer?.lastError).toMatchObject({ by: 'us', reason: expect.stringContaining('open.asn: 65011') });
});

test('sessions opened by both sides at once end as one', async () => {
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  for (let round = 0; round < 5; round++) {
    speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours));
    await exchanged();
    await speaker.kill('SIGTERM');
    await bird.forgotten('10.65.1.0/26');
  }
});
