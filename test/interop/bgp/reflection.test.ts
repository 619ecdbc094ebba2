import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseIp } from '../../../src/model/address.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { type Kind, kinds, learnt, type Router, routerOf } from '../../support/daemons/trio.ts';

/* Route reflection (RFC 4456) and communities, with every daemon in every role. */

const us = addresses.us.four;
const internal = 64512;
const external = 65010;

const at: Readonly<Record<Kind, { readonly address: string; readonly net: number }>> = {
  bird: { address: '10.99.0.2', net: 1 },
  frr: { address: '10.99.0.3', net: 2 },
  gobgp: { address: '10.99.0.4', net: 3 },
};

const marks = { communities: ['64512:7'], routeTargets: ['64512:8'], large: ['64512:1:2'] };
const prefixOf = (kind: Kind) => `192.0.${at[kind].net}.0/24`;
const privateOf = (kind: Kind) => `198.51.${at[kind].net}.0/24`;
const secretOf = (kind: Kind) => `203.0.${at[kind].net}.0/24`;

let link: Link;
let speaker: SpeakerProcess;

beforeEach(async () => {
  link = new Link();
  speaker = new SpeakerProcess(link);
  for (const kind of ['frr', 'gobgp'] as const)
    await link.exec('them', 'ip', ['addr', 'add', `${at[kind].address}/24`, 'dev', 'eth0']);
});

afterEach(() => link.close());

/** What a router announces: one route for all, one that stays in the AS, and one that goes no further than us. */
function announcedBy(kind: Kind) {
  return [
    { prefix: prefixOf(kind), ...marks },
    { prefix: privateOf(kind), communities: ['65535:65281'] },
    { prefix: secretOf(kind) },
  ];
}

describe.each(kinds)('we reflect, %s is outside', (outside) => {
  const clients = kinds.filter((kind) => kind !== outside);

  test('clients hear of each other, those outside of all that may leave, every community as it was', async () => {
    const routers = new Map<Kind, Router>();
    for (const kind of kinds) {
      const neighbors = [{ address: us, asn: internal }];
      const asn = kind === outside ? external : internal;
      const secret = secretOf(kind);
      const options = { address: at[kind].address, asn, neighbors, announced: announcedBy(kind), secret };
      routers.set(kind, routerOf(kind, link, options));
    }
    await Promise.all([...routers.values()].map((router) => router.start()));
    const peers = kinds.map((kind) =>
      peerOf(4, kind === outside ? external : internal, {
        name: kind,
        address: parseIp(at[kind].address),
        initiative: 'never',
        // All of them live in one host, which would take the address of another as its own.
        ...(kind === outside ? { nextHopMode: 'self' } : { routeReflectorClient: true }),
      }),
    );
    speaker.start(configOf(internal, peers, []));
    await speaker.established();
    const there = (kind: Kind) => routers.get(kind) ?? expect.fail('no router');
    for (const [kind, other] of [clients, clients.toReversed()] as [Kind, Kind][]) {
      const { address } = at[kind];
      expect(await learnt(there(other), prefixOf(kind))).toEqual({
        path: '',
        nextHop: address,
        ...marks,
        originator: address,
        clusters: [us],
      });
      await learnt(there(other), privateOf(kind));
      expect(await learnt(there(outside), prefixOf(kind))).toMatchObject({ path: `${internal}`, ...marks });
      expect(await learnt(there(other), prefixOf(outside))).toMatchObject({ path: `${external}`, ...marks });
    }
    for (const kind of kinds) {
      const secret = secretOf(kind);
      expect((await speaker.learnt(secret)).paths).toMatchObject([{ peer: kind, communities: ['65535:65282'] }]);
      for (const other of kinds) if (other !== kind) expect(await there(other).route(secret)).toBeUndefined();
    }
    for (const kind of clients) expect(await there(outside).route(privateOf(kind))).toBeUndefined();
    expect((await speaker.peers()).map(({ flaps }) => flaps)).toEqual([0, 0, 0]);
  });
});

describe.each([
  { reflector: 'bird', other: 'frr' },
  { reflector: 'frr', other: 'bird' },
  { reflector: 'gobgp', other: 'bird' },
] as const)('$reflector reflects, we and $other are its clients', ({ reflector, other }) => {
  test('each hears of the other through it', async () => {
    const hub = at[reflector].address;
    const client = (address: string) => ({ address, asn: internal, client: true });
    const center = routerOf(reflector, link, {
      address: hub,
      asn: internal,
      neighbors: [client(us), client(at[other].address)],
      announced: [],
      listens: reflector !== 'bird' && other !== 'bird',
    });
    const leaf = routerOf(other, link, {
      address: at[other].address,
      asn: internal,
      neighbors: [{ address: hub, asn: internal }],
      announced: [{ prefix: prefixOf(other), ...marks }],
    });
    await Promise.all([center.start(), leaf.start()]);
    const peer = peerOf(4, internal, { name: 'hub', address: parseIp(hub), initiative: 'wait' });
    speaker.start(configOf(internal, [peer], ['10.65.1.0/26']));
    const [path] = (await speaker.learnt(prefixOf(other))).paths;
    expect(path).toMatchObject({
      source: 'ibgp',
      nextHop: at[other].address,
      originatorId: at[other].address,
      clusterList: [hub],
      communities: marks.communities,
      largeCommunities: marks.large,
      extendedCommunities: ['0002fc0000000008'],
    });
    const ours = await learnt(leaf, '10.65.1.0/26');
    expect(ours).toMatchObject({ nextHop: us, originator: us, clusters: [hub] });
  });
});
