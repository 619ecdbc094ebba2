import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addresses, type Host, Link } from '../../support/daemons/network.ts';
import { BirdRouter, FrrRouter } from '../../support/daemons/router.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

const { us, them } = addresses;
const theirs = '192.0.2.0/24';

let link: Link;
let bird: BirdRouter;
let speaker: Standalone;

beforeEach(() => {
  link = new Link();
  bird = new BirdRouter(link);
  speaker = new Standalone(link);
});

afterEach(() => link.close());

interface Ends {
  readonly local: string;
  readonly remote: string;
  readonly family?: string;
}

/** BIRD with one session, which may be given more options, and other ends than the usual addresses. */
function birdWith(options: string, ends: Ends = { local: them.four, remote: us.four }): string {
  const { local, remote, family = 'ipv4' } = ends;

  return `router id ${them.four};
protocol device { }
protocol static { ipv4; route ${theirs} blackhole; }
protocol static { ipv6; route 2001:db8:7::/48 blackhole; }
protocol bgp ours {
  local ${local} as 65010;
  neighbor ${remote} as 64512;
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  ${options}
  ${family} { import all; export where source = RTS_STATIC; next hop self; };
}
`;
}

function frrWith(...options: readonly string[]): string {
  return `router bgp 65010
 bgp router-id ${them.four}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor ${us.four} remote-as 64512
 neighbor ${us.four} timers connect 1
${options.map((option) => ` neighbor ${us.four} ${option}`).join('\n')}
 address-family ipv4 unicast
  network ${theirs}
 exit-address-family
`;
}

/** Our file with one neighbour. */
function file(neighbor: object = {}, more: object = {}): object {
  return {
    asn: 64512,
    routerId: us.four,
    addresses: [`${us.four}/24`, `${us.six}/64`],
    originate: ['10.65.1.0/26'],
    neighbors: [{ name: 'them', address: them.four, asn: 65010, localAddress: us.four, ...neighbor }],
    ...more,
  };
}

/** A counter of the kernel's TCP in a host, out of /proc/net/netstat. */
async function counter(host: Host, name: string): Promise<number> {
  const text = await link.exec(host, 'cat', ['/proc/net/netstat']);
  const [names = '', values = ''] = text.split('\n').filter((line) => line.startsWith('TcpExt:'));
  return Number(values.split(' ')[names.split(' ').indexOf(name)]);
}

async function counts(host: Host, name: string): Promise<void> {
  await until(async () => (await counter(host, name)) > 0, { within: 30_000, what: `${name} in ${host}` });
}

describe('TCP MD5 with BIRD', () => {
  test.each([
    { who: 'we', ours: {}, bird: 'passive on;' },
    { who: 'BIRD', ours: { passive: true }, bird: '' },
  ])('right key: $who connect', async ({ ours, bird: options }) => {
    await bird.start(birdWith(`password "sesame"; ${options}`));
    speaker.start(file({ password: 'sesame', ...ours }));
    await speaker.established('them');
    await speaker.learnt(theirs);
  });

  test.each([
    { who: 'we', ours: {}, bird: 'passive on;' },
    { who: 'BIRD', ours: { passive: true }, bird: '' },
  ])(
    'wrong key, $who connect: no session until a reload mends it, and no other is touched',
    async ({ ours, bird: options }) => {
      await bird.start(birdWith(`password "sesame"; ${options}`));
      speaker.start(file({ password: 'poppy', ...ours }));
      await until(async () => (await speaker.peers()).length === 1, { within: 20_000, what: 'our control socket' });
      await counts(options === '' ? 'us' : 'them', 'TCPMD5Failure');
      expect((await speaker.peer('them'))?.state).not.toBe('Established');
      speaker.reload(file({ password: 'sesame', ...ours }));
      await speaker.established('them');
      for (const secret of ['sesame', 'poppy']) expect(speaker.output).not.toContain(secret);
      expect(JSON.stringify(await speaker.peers())).not.toContain('sesame');
    },
  );

  test('no key there: what it sends is dropped', async () => {
    await bird.start(birdWith(''));
    speaker.start(file({ password: 'sesame' }));
    await counts('us', 'TCPMD5NotFound');
    expect((await speaker.peer('them'))?.state).not.toBe('Established');
  });

  test('over IPv6', async () => {
    await bird.start(birdWith('password "sesame";', { local: them.six, remote: us.six, family: 'ipv6' }));
    speaker.start(file({ address: them.six, localAddress: us.six, password: 'sesame' }));
    await speaker.established('them');
    await speaker.learnt('2001:db8:7::/48');
  });
});

describe('GTSM with BIRD', () => {
  test.each([
    { who: 'we', ours: {}, bird: 'passive on;' },
    { who: 'BIRD', ours: { passive: true }, bird: '' },
  ])('on both sides: $who connect', async ({ ours, bird: options }) => {
    await bird.start(birdWith(`ttl security on; ${options}`));
    speaker.start(file({ ttlSecurity: 1, ...ours }));
    await speaker.established('them');
    await speaker.learnt(theirs);
  });

  test('a peer that starts with fewer hops is not heard', async () => {
    await bird.start(birdWith(''));
    speaker.start(file({ ttlSecurity: 1 }));
    await counts('us', 'TCPMinTTLDrop');
    expect((await speaker.peer('them'))?.state).not.toBe('Established');
  });

  test('over IPv6', async () => {
    await bird.start(birdWith('ttl security on;', { local: them.six, remote: us.six, family: 'ipv6' }));
    speaker.start(file({ address: them.six, localAddress: us.six, ttlSecurity: 1 }));
    await speaker.established('them');
  });
});

describe('FRR', () => {
  test.each([
    { who: 'we', ours: {}, frr: ['passive'] },
    { who: 'FRR', ours: { passive: true }, frr: [] },
  ])('MD5 and GTSM at once, $who connect', async ({ ours, frr: options }) => {
    const frr = new FrrRouter(link);
    await frr.start(frrWith('password sesame', 'ttl-security hops 1', ...options));
    speaker.start(file({ password: 'sesame', ttlSecurity: 1, ...ours }));
    await speaker.established('them');
    await speaker.learnt(theirs);
  });

  test('a wrong key makes no session', async () => {
    const frr = new FrrRouter(link);
    await frr.start(frrWith('password sesame'));
    speaker.start(file({ password: 'poppy' }));
    await counts('us', 'TCPMD5Failure');
    expect((await speaker.peer('them'))?.state).not.toBe('Established');
  });

  test('another port on either side', async () => {
    const frr = new FrrRouter(link);
    await frr.start(frrWith('port 1791'), 1790);
    speaker.start(file({ port: 1790 }, { listen: { port: 1791 } }));
    await speaker.established('them');
    await speaker.stop();
    speaker.start(file({ passive: true }, { listen: { port: 1791 } }));
    await speaker.established('them');
    await speaker.learnt(theirs);
  });
});

test('another port with BIRD, on either side', async () => {
  const ends = { local: `${them.four} port 1790`, remote: `${us.four} port 1791` };
  await bird.start(birdWith('', ends));
  speaker.start(file({ port: 1790 }, { listen: { port: 1791, addresses: [us.four] } }));
  await speaker.established('them');
  await speaker.learnt(theirs);
});

test('a session over IPv6 link-local addresses, opened by either side', async () => {
  const [local, remote] = await Promise.all([link.linkLocal('them'), link.linkLocal('us')]);
  const ends = { local, remote: `${remote}%'eth0'`, family: 'ipv6' };
  await bird.start(birdWith('passive on;', ends));
  const neighbor = { address: `${local}%eth0`, localAddress: remote };
  speaker.start(file(neighbor));
  expect(await speaker.established('them')).toMatchObject({ address: local, interface: 'eth0' });
  await speaker.stop();
  await bird.reconfigure(birdWith('', ends));
  speaker.start(file({ ...neighbor, passive: true }, { originate: ['fd65:1::/122'] }));
  await speaker.established('them');
  await until(async () => (await bird.ask('show', 'route', 'all')).includes(`BGP.next_hop: ${us.six}`), {
    within: 20_000,
    what: 'our route in BIRD, with our global address as next hop',
  });
});

describe('listen ranges', () => {
  const range = (extra: object) => ({ name: 'tor', prefix: '10.99.0.0/24', asn: 65010, ...extra });
  const alone = (extra: object) => file({}, { neighbors: [], ranges: [range(extra)] });

  test('a peer comes with its key, is shown with its range, and leaves', async () => {
    await bird.start(birdWith('password "sesame"; ttl security on;'));
    speaker.start(alone({ password: 'sesame', ttlSecurity: 1 }));
    const name = `tor-${them.four}`;
    expect(await speaker.established(name)).toMatchObject({ range: 'tor', address: them.four });
    await speaker.learnt(theirs);
    speaker.reload(alone({ password: 'sesame', ttlSecurity: 1, limit: 7 }));
    await until(() => speaker.output.includes('configuration applied'), { within: 10_000, what: 'the reload' });
    expect(await speaker.peer(name)).toMatchObject({ state: 'Established', flaps: 0 });
    speaker.reload(file({}, { neighbors: [] }));
    await bird.says('ours', /Received: Peer de-configured/);
    expect(await speaker.peers()).toEqual([]);
  });

  test('one beyond the limit is turned away, and let in when there is room', async () => {
    await link.exec('them', 'ip', ['addr', 'add', '10.99.0.3/24', 'dev', 'eth0']);
    await bird.start(birdWith(''));
    speaker.start(alone({ limit: 1 }));
    await speaker.established(`tor-${them.four}`);
    const client = `require('node:net').connect({ host: '${us.four}', port: 179, localAddress: '10.99.0.3' }).resume()`;
    await link.exec('them', process.execPath, ['-e', client]);
    await until(() => speaker.output.includes('has its limit of 1 peers'), { within: 30_000, what: 'the refusal' });
    expect((await speaker.peers()).map(({ name }) => name)).toEqual([`tor-${them.four}`]);
    await bird.reconfigure(birdWith('', { local: '10.99.0.3', remote: us.four }));
    await speaker.established('tor-10.99.0.3');
    expect((await speaker.peers()).map(({ name }) => name)).toEqual(['tor-10.99.0.3']);
  });
});

test('SIGHUP touches only what changed, a wrong file touches nothing, SIGTERM says shutdown', async () => {
  await bird.start(birdWith(''));
  speaker.start(file());
  await speaker.established('them');
  const other = { name: 'other', address: '10.99.0.9', asn: 65011 };
  const [first] = (file() as { neighbors: object[] }).neighbors;
  speaker.reload(file({}, { neighbors: [first, other], originate: ['10.65.2.0/26'] }));
  await until(async () => (await bird.ask('show', 'route')).includes('10.65.2.0/26'), {
    within: 20_000,
    what: 'the new origination in BIRD',
  });
  expect(await bird.ask('show', 'route')).not.toContain('10.65.1.0/26');
  speaker.reload(file({ holdSeconds: 1 }));
  await until(() => speaker.output.includes('configuration not understood'), { within: 10_000, what: 'the complaint' });
  expect((await speaker.peers()).map(({ name }) => name).sort()).toEqual(['other', 'them']);
  expect(await speaker.peer('them')).toMatchObject({ state: 'Established', flaps: 0 });
  await speaker.stop();
  await bird.says('ours', /Received: Administrative shutdown/);
});
