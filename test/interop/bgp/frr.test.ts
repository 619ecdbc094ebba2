import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Frr } from '../../support/daemons/frr.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';

const ours = ['10.65.1.0/26', '10.65.9.9/32', 'fd65:1::/122'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24', '2001:db8:7::/48'];

let link: Link;
let frr: Frr;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  frr = new Frr(link);
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

describe.each([
  { kind: 'eBGP', asn: 65010, path: '64512', source: 'ebgp' },
  { kind: 'iBGP', asn: 64512, path: '', source: 'ibgp' },
])('$kind with FRR', ({ asn, path, source }) => {
  test('both families are exchanged, withdrawn and announced again', async () => {
    await frr.start(asn, 64512, theirs);
    speaker.start(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours));
    await speaker.established();
    for (const prefix of ours) await frr.learnt(prefix);
    for (const prefix of theirs) await speaker.learnt(prefix);

    const four = await frr.learnt('10.65.1.0/26');
    expect(four.paths[0]).toMatchObject({ origin: 'IGP', nexthops: [{ ip: addresses.us.four }] });
    expect(four.paths[0]?.aspath.string).toBe(path || 'Local');
    expect((await frr.learnt('fd65:1::/122')).paths[0]?.nexthops).toMatchObject([{ ip: addresses.us.six }]);
    const learnt = await speaker.learnt('192.0.2.0/24');
    expect(learnt.paths).toMatchObject([{ peer: 'them-4', source, nextHop: addresses.them.four, verdict: 'best' }]);

    await frr.show('configure terminal', `router bgp ${asn}`, 'address-family ipv4 unicast', 'no network 192.0.2.0/24');
    await speaker.forgotten('192.0.2.0/24');
    speaker.apply(configOf(64512, [peerOf(4, asn), peerOf(6, asn)], ours.slice(1)));
    await frr.forgotten('10.65.1.0/26');
    expect((await speaker.peers()).map(({ flaps }) => flaps)).toEqual([0, 0]);
  });
});
