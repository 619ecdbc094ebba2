import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';

const ours = ['10.65.1.0/26', '10.65.9.9/32', 'fd65:1::/122'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24', '2001:db8:7::/48'];

let link: Link;
let gobgp: GoBgp;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  gobgp = new GoBgp(link);
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

describe.each([
  { kind: 'eBGP', asn: 65010, source: 'ebgp' },
  { kind: 'iBGP', asn: 64512, source: 'ibgp' },
])('$kind with GoBGP', ({ asn, source }) => {
  test('both families are exchanged, withdrawn and announced again', async () => {
    await gobgp.start(asn, 64512, theirs);
    speaker.start(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours));
    await speaker.established();
    for (const prefix of ours) await gobgp.learnt(prefix);
    for (const prefix of theirs) await speaker.learnt(prefix);

    expect(await gobgp.learnt('10.65.1.0/26')).toContain(addresses.us.four);
    expect(await gobgp.learnt('fd65:1::/122')).toContain(addresses.us.six);
    const learnt = await speaker.learnt('2001:db8:7::/48');
    expect(learnt.paths).toMatchObject([
      { peer: 'them-6', source, nextHop: addresses.them.six, communities: ['65010:7'], verdict: 'best' },
    ]);

    await gobgp.withdraw('192.0.2.0/24');
    await speaker.forgotten('192.0.2.0/24');
    await gobgp.announce('192.0.2.0/24');
    await speaker.learnt('192.0.2.0/24');
    speaker.apply(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours.slice(1)));
    await gobgp.forgotten('10.65.1.0/26');
    expect((await speaker.peers()).map(({ flaps }) => flaps)).toEqual([0, 0]);
  });
});
