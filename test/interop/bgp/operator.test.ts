import { request } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { addresses, Link } from '../../support/daemons/network.ts';
import { BirdRouter, FrrRouter } from '../../support/daemons/router.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

/* What operators tell each other when they end a session (RFC 9003), and what the log says of it. */

const { us, them } = addresses;

let link: Link;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

/** `margayctl bgp reset NAME --message TEXT`, as the control socket hears it. */
function reset(name: string, message: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const socketPath = join(link.directory, 'bgp.sock');
    const call = request({ socketPath, path: `/v1/peers/${name}/reset`, method: 'POST' }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode));
    });
    call.on('error', reject);
    call.end(JSON.stringify({ message }));
  });
}

async function ended(reason: string): Promise<void> {
  await until(async () => (await speaker.peers())[0]?.sessionEnd?.reason === reason, {
    within: 20_000,
    what: `the end of the session with ${reason}`,
  });
}

/** What the log said at level info and above of sessions. */
function told(): string[] {
  const lines = speaker.output
    .split('\n')
    .filter((line) => line.includes('BGP session') || line.includes('BGP connect'));
  return lines.flatMap((line) => {
    const { level, msg, by, reason } = JSON.parse(line);
    return level === 'debug' ? [] : [[msg, by, reason].filter(Boolean).join(' ')];
  });
}

test('BIRD’s operator and ours hear each other, and each end of a session is one line that says why', async () => {
  const bird = new BirdRouter(link);
  await bird.start(`router id ${them.four};
protocol device { }
protocol bgp ours {
  local ${them.four} as 65010;
  neighbor ${us.four} as 64512;
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  ipv4 { import all; export none; };
}
`);
  speaker.start(configOf(64512, [peerOf(4, 65010)], []));
  await speaker.established();
  await bird.ask('disable', 'ours', '"maintenance at noon"');
  await ended('cease/shutdown (6/2) "maintenance at noon"');
  await bird.ask('enable', 'ours');
  await speaker.established();
  expect(await reset('them-4', 'cable swap: 5 min')).toBe(200);
  await bird.says('ours', /cable swap: 5 min/);
  await speaker.established();
  expect(told()).toEqual([
    'BGP session established',
    'BGP connection ended peer cease/shutdown (6/2) "maintenance at noon"',
    'BGP session established',
    'BGP session reset us cease/reset (6/4) "cable swap: 5 min"',
    'BGP session established',
  ]);
});

test('FRR’s operator is heard through a hard reset, also once later attempts have failed', async () => {
  const frr = new FrrRouter(link);
  await frr.start(`router bgp 65010
 bgp router-id ${them.four}
 no bgp ebgp-requires-policy
 neighbor ${us.four} remote-as 64512
 neighbor ${us.four} timers connect 1
`);
  const neighbor = (...lines: readonly string[]) =>
    frr.show('configure terminal', 'router bgp 65010', ...lines.map((line) => line.replace('N', us.four)));
  speaker.start(configOf(64512, [peerOf(4, 65010)], []));
  await speaker.established();
  await neighbor('neighbor N shutdown message maintenance at noon');
  await ended('cease/hardReset (6/9): cease/shutdown (6/2) "maintenance at noon"');
  await until(async () => (await speaker.peers())[0]?.lastError?.by === 'tcp', {
    within: 20_000,
    what: 'an attempt while FRR is shut',
  });
  expect((await speaker.peers())[0]?.sessionEnd).toMatchObject({ by: 'peer' });
  await neighbor('no neighbor N shutdown message maintenance at noon', 'no neighbor N shutdown');
  await speaker.established();
});
