import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { Control } from '../../../src/bgp/control.ts';
import { Feed } from '../../../src/bgp/feed.ts';
import { KernelRoutes } from '../../../src/bgp/kernel-routes.ts';
import type { SpeakerConfig } from '../../../src/bgp/settings.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';

/** Runs a speaker from a JSON file `{config, restarted, deferralSeconds}`; SIGHUP reads it again. */
export interface SpeakerFile {
  readonly config: SpeakerConfig;
  readonly restarted: boolean;
  readonly deferralSeconds: number;
}

const [, , file = '', directory = ''] = process.argv;
const read = (): SpeakerFile => JSON.parse(readFileSync(file, 'utf8'));
const { config, restarted, deferralSeconds } = read();
const log = createLog('speaker', 'debug');
const { lookup } = new KernelRoutes();
const speaker = new Speaker(config, { clock: systemClock, log, restarted, deferralSeconds, lookup });
const control = new Control(speaker, log);
const feed = new Feed(speaker, log);
await feed.listen(join(directory, 'routes.sock'));
await control.listen(join(directory, 'bgp.sock'));
await speaker.start();
process.on('SIGHUP', () => void speaker.apply(read().config));
process.on('SIGTERM', async () => {
  await speaker.stop('shutdown');
  process.exit(0);
});
