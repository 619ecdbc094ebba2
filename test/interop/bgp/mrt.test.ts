import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { bgpCommand } from '../../../src/cli/peering.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';

let link: Link;
let bird: Bird;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  bird = new Bird(link);
  speaker = new SpeakerProcess(link);
});

afterEach(() => {
  vi.unstubAllEnvs();
  return link.close();
});

test('bgpdump reads from the dump what BIRD told and what is our own', async () => {
  const exporting = 'bgp_path.prepend(65020); bgp_community.add((65010,7));';
  await bird.start({ asn: 65010, peerAsn: 64512, routes: ['192.0.2.0/24', '2001:db8:7::/48'], exporting });
  speaker.start(configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ['10.65.1.0/26', 'fd65:1::/122']));
  await speaker.learnt('192.0.2.0/24');
  await speaker.learnt('2001:db8:7::/48');

  const file = join(link.directory, 'table.mrt');
  vi.stubEnv('MARGAY_RUN_DIR', link.directory);
  await bgpCommand().parseAsync(['dump', file], { from: 'user' });
  const lines = execFileSync('bgpdump', ['-m', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  // Type, time, B for a table, peer, its AS, prefix, AS path, origin, next hop, LOCAL_PREF, MED, communities …
  const entries = lines.split('\n').map((line) => line.split('|'));
  const told = entries.map(([type, , kind, peer, asn, prefix, path, origin, nextHop]) =>
    [type, kind, peer, asn, prefix, path, origin, nextHop].join(' '),
  );
  const { them, us } = addresses;
  expect(told.sort()).toEqual(
    [
      `TABLE_DUMP2 B ${them.four} 65010 192.0.2.0/24 65010 65020 IGP ${them.four}`,
      `TABLE_DUMP2 B ${them.six} 65010 2001:db8:7::/48 65010 65020 IGP ${them.six}`,
      `TABLE_DUMP2 B ${us.four} 64512 10.65.1.0/26  IGP 0.0.0.0`,
      `TABLE_DUMP2 B ${us.four} 64512 fd65:1::/122  IGP ::`,
    ].sort(),
  );
  expect(lines).toContain('65010:7');

  const nowhere = join(link.directory, 'missing', 'table.mrt');
  await expect(bgpCommand().parseAsync(['dump', nowhere], { from: 'user' })).rejects.toThrow(/^file: .*missing/);
  expect(readdirSync(link.directory).filter((name) => name.endsWith('.partial'))).toEqual([]);
});
